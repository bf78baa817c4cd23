// All-reduce of the gradients of several devices: the bits, the order of calls, and failures.
#include "engine/device_exchange.h"

#include <cmath>
#include <cstring>
#include <random>

#include "devices.h"
#include "tree.h"

namespace orch::test {
namespace {

/// A killed rank: thrown by the transport, caught only by the test.
struct Killed {};
/// The call of a transport, counted from 0, at which it fails, and how. -1: never.
struct Fault {
  int call = -1;
  bool kills = false;
};

/// A gradient in so many buckets of about equal lengths, multiples of 16 as in a ParameterTable.
std::vector<Bucket> divided(int64_t length, int64_t count) {
  std::vector<Bucket> buckets;
  for (int64_t b = 0, at = 0; b < count; ++b) {
    const int64_t end = b == count - 1 ? length : (b + 1) * length / count / 16 * 16;
    buckets.push_back({at, end - at});
    at = end;
  }
  return buckets;
}

/// One generation of ranks, each on its own thread.
struct Generation {
  /// @param count of buckets; each is exchanged as soon as the last slot has completed it, while the others
  /// are still NaN
  Generation(const std::vector<SlotRange>& slots_, int64_t length_, size_t scratch_, int64_t count = 1)
      : slots(slots_),
        buckets(divided(length_, count)),
        length(length_),
        ranks(static_cast<int>(slots.size())),
        faults(ranks),
        errors(ranks),
        sums(ranks),
        bytes(ranks),
        calls(ranks),
        completed(ranks) {
    for (int r = 0; r < ranks; ++r) {
      devices.push_back(kernels::cuda::make_emulated_device([this, r](int call) {
        if (calls[r].empty()) calls[r].resize(buckets.size() + 1);
        ++calls[r][completed[r]];
        if (call != faults[r].call) return;
        if (faults[r].kills) throw Killed{};
        throw Error("ERR_EXCHANGE", "planted");
      }));
      exchanges.push_back(std::make_unique<DeviceExchange>(*devices.back(), r, slots, buckets, scratch_));
    }
  }

  /// Every rank sums its slots, then all ranks all-reduce, `rounds` times. When one fails, the others are
  /// aborted, as the coordinator does.
  void run(const std::vector<std::vector<float>>& leaves, int rounds) {
    const std::string leader = exchanges[0]->rendezvous();
    std::vector<std::thread> threads;
    for (int r = 0; r < ranks; ++r)
      threads.emplace_back([&, r] {
        try {
          exchanges[r]->connect(leader);
          for (int round = 0; round < rounds; ++round) step(r, leaves);
        } catch (const Error& e) {
          errors[r] = e.code() + " " + e.what();
        } catch (const Killed&) {
          errors[r] = "killed";
        }
        if (errors[r].empty()) return;
        for (auto& e : exchanges) e->abort();
      });
    for (auto& t : threads) t.join();
    // Calls at which NCCL would hang, or which it would mistake for others.
    for (const std::string& e : errors) CHECK(e.find("NCCL's rules") == std::string::npos, e);
  }

  void step(int r, const std::vector<std::vector<float>>& leaves) {
    graph::Device& device = *devices[r];
    GradientSums local(device, length, buckets);
    local.begin(slots[r].lo, slots[r].hi, slots.back().hi, [&](int b) {
      const Bucket& last = buckets[std::min<int64_t>(b + ahead, std::ssize(buckets) - 1)];
      exchanges[r]->advance(local.parts(), last.offset + last.length);
    });
    for (int64_t s = slots[r].lo; s < slots[r].hi; ++s) {
      float* const buffer = local.acquire();
      device.fill(buffer, 0xff, sizeof(float) * length);
      for (int b = 0; b < local.buckets(); ++b) {
        const auto [offset, n] = buckets[b];
        device.upload(buffer + offset, leaves[s].data() + offset, sizeof(float) * n);
        completed[r] = b + 1;
        local.complete(s, buffer, b);
      }
    }
    bytes[r] = exchanges[r]->sum(local.parts());
    sums[r].resize(length);
    device.download(sums[r].data(), local.parts()[0].data, sizeof(float) * length);
  }

  const std::vector<SlotRange> slots;
  const std::vector<Bucket> buckets;
  const int64_t length;
  int64_t ahead = 0;  ///< how many buckets too early each is exchanged
  const int ranks;
  std::vector<Fault> faults;
  std::vector<std::string> errors;
  std::vector<std::vector<float>> sums;
  std::vector<int64_t> bytes;
  std::vector<std::vector<int>> calls;  ///< of each rank's transport, by the buckets completed before
  std::vector<size_t> completed;        ///< buckets of each rank's last slot
  std::vector<std::unique_ptr<graph::Device>> devices;
  std::vector<std::unique_ptr<DeviceExchange>> exchanges;
};

std::vector<SlotRange> shared_out(int64_t total, int64_t ranks) {
  std::vector<SlotRange> slots;
  for (int64_t r = 0; r < ranks; ++r) slots.push_back({r * total / ranks, (r + 1) * total / ranks});
  return slots;
}

std::vector<std::vector<float>> random_leaves(int64_t total, int64_t length) {
  std::mt19937 random(9);
  return test::random_leaves(total, length, random);
}

TEST("exchange: the bits of one worker at any number of ranks, slots, lengths and pieces") {
  for (const int64_t ranks : {1, 2, 3, 4, 7})
    for (const int64_t total : {ranks, 2 * ranks + 3, int64_t{16}})
      for (const int64_t length : {16, 208, 1744, 13440})
        for (const auto& [scratch, buckets] : {std::pair{1, 1}, {1, 5}, {40000, 1}, {40000, 5}}) {
          const std::string at = text(ranks, " ranks, ", total, " slots, ", length, " elements in ", buckets,
                                      " buckets, scratch ", scratch);
          const auto leaves = random_leaves(total, length);
          const auto want = part_sum(leaves, 0, total);
          Generation g(shared_out(total, ranks), length, static_cast<size_t>(scratch), buckets);
          g.run(leaves, 2);
          for (int r = 0; r < ranks; ++r) {
            CHECK(g.errors[r].empty(), at, ", rank ", r, ": ", g.errors[r]);
            CHECK(g.sums[r] == want, at, ", rank ", r);
            CHECK((g.bytes[r] > 0) == (ranks > 1), at, ": ", g.bytes[r], " bytes");
          }
        }
}

TEST("exchange: unusual distributions of slots") {
  const std::vector<SlotRange> shares[] = {{{0, 1}, {1, 11}}, {{0, 10}, {10, 11}}, {{0, 3}, {3, 4}, {4, 11}}};
  for (const auto& slots : shares) {
    const auto leaves = random_leaves(11, 400);
    for (const int64_t buckets : {1, 3}) {
      Generation g(slots, 400, 5000, buckets);
      g.run(leaves, 1);
      for (int r = 0; r < g.ranks; ++r)
        CHECK(g.sums[r] == part_sum(leaves, 0, 11), g.ranks, " ranks, rank ", r, ": ", g.errors[r]);
    }
  }
}

TEST("exchange: a bucket is exchanged when it is complete, not later and not before") {
  const int64_t total = 5, length = 4 * 192;  // pieces of 3 ranks divide a bucket
  const auto leaves = random_leaves(total, length);
  const auto want = part_sum(leaves, 0, total);
  Generation g(shared_out(total, 3), length, 40000, 4);
  g.run(leaves, 1);
  for (int r = 0; r < 3; ++r) {
    CHECK(g.sums[r] == want, "rank ", r, ": ", g.errors[r]);
    // The wait for all is with the connection, and as long as fewer buckets are complete than one, there is
    // nothing to exchange. sum() waits twice.
    const int each = g.calls[r][1];
    CHECK(each > 3 && g.calls[r] == (std::vector{1, each, each, each, each + 2}), "rank ", r, ": ",
          g.calls[r][1], " calls after the first bucket");
  }
  Generation early(shared_out(total, 3), length, 40000, 4);
  early.ahead = 1;
  early.run(leaves, 1);
  for (int r = 0; r < 3; ++r) CHECK(early.sums[r] != want && std::isnan(early.sums[r].at(192)), "rank ", r);
}

TEST("exchange: scratch is bounded, and no more is received than necessary") {
  const int64_t length = 1 << 16;
  Generation g(shared_out(8, 4), length, 50000);
  g.run(random_leaves(8, length), 1);
  for (int r = 0; r < g.ranks; ++r) {
    CHECK(g.exchanges[r]->bytes() <= 50000 && g.exchanges[r]->bytes() > 40000, g.exchanges[r]->bytes());
    // Three parts of a quarter, then three quarters of the sum, and the remainder that 128 elements do not
    // divide.
    CHECK(g.bytes[r] == length * 6, g.bytes[r]);
  }
}

TEST(
    "exchange: a rank that fails or is killed at any call ends every other's, and the next generation "
    "works") {
  const int64_t ranks = 3, total = 7, length = 1000;
  const auto leaves = random_leaves(total, length);
  const auto want = part_sum(leaves, 0, total);
  for (const bool kills : {false, true})
    for (int call = 0;; ++call) {
      bool reached = false;
      for (int who = 0; who < ranks; ++who) {
        const std::string at = text(kills ? "killed" : "failed", " at call ", call, " of rank ", who);
        Generation g(shared_out(total, ranks), length, 3000, 3);
        g.faults[who] = {call, kills};
        g.run(leaves, 1);
        if (g.errors[who].empty()) continue;
        const bool planted = g.errors[who].find(kills ? "killed" : "planted") != std::string::npos;
        CHECK(planted, at, ": ", g.errors[who]);
        reached |= planted;
        for (int r = 0; r < ranks; ++r) {
          if (r == who && kills) continue;
          // A rank that had received all it needed before the failure has finished, with the sum.
          if (g.errors[r].empty())
            CHECK(g.sums[r] == want, at, ", rank ", r);
          else
            CHECK(g.errors[r].starts_with("ERR_EXCHANGE"), at, ", rank ", r, ": ", g.errors[r]);
          if (!g.errors[r].empty())
            CHECK(g.errors[r].find(text("rank ", r, " of 3")) != std::string::npos, at, ": ", g.errors[r]);
        }
      }
      if (!reached) {
        CHECK(call > 10, "calls of a rank: ", call);
        break;
      }
    }
  Generation next(shared_out(total, ranks), length, 3000, 3);
  next.run(leaves, 1);
  for (int r = 0; r < ranks; ++r) CHECK(next.sums[r] == want, next.errors[r]);
}

TEST("exchange: the emulated transport finds the calls at which NCCL would hang or mix up data") {
  using graph::Transport;
  using Transfer = Transport::Transfer;
  constexpr auto kSend = Transfer::Send, kReceive = Transfer::Receive;
  struct Case {
    const char* complaint;
    std::function<void(Transport&, float* data, int rank)> call;
  };
  const Case cases[] = {
      {"receives what rank 1 does not send",
       [](Transport& t, float* data, int) {
         t.send_receive({{kReceive, 1, data, 4}});
       }},
      {"does not receive all that rank 0 sends",
       [](Transport& t, float* data, int rank) {
         rank == 0 ? t.send_receive({{kSend, 1, data, 4}}) : t.send_receive({});
       }},
      {"receives 3 elements of rank 1, which sends 4",
       [](Transport& t, float* data, int rank) {
         rank == 0 ? t.send_receive({{kReceive, 1, data, 3}}) : t.send_receive({{kSend, 0, data, 4}});
       }},
      {"makes another call than rank 0",
       [](Transport& t, float* data, int rank) {
         const int peer = 1 - rank;
         if (rank == 0) return t.all_gather(data, 4);
         t.send_receive({{kSend, peer, data + 4, 4}, {kReceive, peer, data, 4}});
       }},
      {"exchanges data with rank 2",
       [](Transport& t, float* data, int) {
         t.send_receive({{kSend, 2, data, 4}});
       }},
      {"uses memory that its device did not have",
       [](Transport& t, float* data, int rank) {
         t.send_receive({{kSend, 1 - rank, data + 60, 5}});
       }},
  };
  for (const Case& c : cases) {
    std::vector<std::unique_ptr<graph::Device>> devices;
    std::vector<std::unique_ptr<Transport>> transports;
    for (int r = 0; r < 2; ++r) devices.push_back(kernels::cuda::make_emulated_device());
    const std::string leader = devices[0]->rendezvous(true);
    for (int r = 0; r < 2; ++r) transports.push_back(devices[r]->connect(leader, r, 2));
    std::vector<Buffer> memory;
    for (int r = 0; r < 2; ++r) {
      memory.push_back(devices[r]->allocate(64 * sizeof(float)));
      transports[r]->wait_for_compute_stream();
      c.call(*transports[r], memory[r].as<float>(), r);
    }
    std::string error;
    try {
      transports[0]->wait();
    } catch (const Error& e) {
      error = e.what();
    }
    CHECK(error.find(c.complaint) != std::string::npos, c.complaint, ": ", error);
  }
}

TEST("exchange: abort before the start ends every wait") {
  Generation g(shared_out(2, 2), 100, 1000);
  g.exchanges[1]->abort();
  g.run(random_leaves(2, 100), 1);
  for (int r = 0; r < 2; ++r) CHECK(g.errors[r].starts_with("ERR_EXCHANGE"), "rank ", r, ": ", g.errors[r]);
}

TEST("exchange: sums over wrong slots and a second connection are rejected") {
  Generation g({{0, 2}}, 64, 1000);
  const auto code = [](const auto& f) -> std::string {
    try {
      f();
    } catch (const Error& e) {
      return e.code();
    }
    return "";
  };
  DeviceExchange& e = *g.exchanges[0];
  CHECK(code([&] { e.sum({}); }) == "ERR_INTERNAL", "before it is connected");
  e.connect("");
  CHECK(code([&] { e.connect(""); }) == "ERR_INTERNAL", "twice");
  CHECK(code([&] { e.sum({{0, 1, nullptr}}); }) == "ERR_INTERNAL", "slots of another");
  graph::Device& d = *g.devices[0];
  CHECK(code([&] { DeviceExchange(d, 1, {{0, 2}}, {{0, 64}}); }) == "ERR_EXCHANGE", "rank 1 of 1");
  CHECK(code([&] {
          DeviceExchange(d, 0, {{0, 2}, {3, 4}}, {{0, 64}});
        }) == "ERR_EXCHANGE",
        "slot 2 is nobody's");
}

TEST("device: NCCL with one rank: send/recv, all-gather, abort, and a new communicator") {
  graph::Device* device = nullptr;
  for (const TestedDevice& d : devices())
    if (d.real) device = &d.device;
  if (!device) return skip("there is no GPU");
  std::string rendezvous;
  try {
    rendezvous = device->rendezvous(false);
  } catch (const Error& e) {
    return skip(e.what());
  }
  CHECK(rendezvous.starts_with("GPU-") && rendezvous.find("/NCCL 2.") == 36 && rendezvous.ends_with("/"),
        rendezvous);
  const int64_t n = 1 << 20;
  const auto values = random_leaves(2, n);
  const Buffer a = device->allocate(sizeof(float) * n), b = device->allocate(sizeof(float) * n);
  const auto read = [&](const Buffer& from) {
    std::vector<float> v(n);
    device->download(v.data(), from.data(), sizeof(float) * n);
    return v;
  };
  for (int generation = 0; generation < 2; ++generation) {
    const auto transport = device->connect(device->rendezvous(true), 0, 1);
    transport->wait();
    device->upload(a.data(), values[generation].data(), sizeof(float) * n);
    device->fill(b.data(), 0xff, sizeof(float) * n);
    transport->wait_for_compute_stream();
    transport->send_receive({{graph::Transport::Transfer::Send, 0, a.as<float>(), n},
                             {graph::Transport::Transfer::Receive, 0, b.as<float>(), n}});
    transport->all_gather(b.as<float>(), n);
    transport->add(b.as<float>(), b.as<float>(), b.as<float>(), n);
    transport->make_compute_stream_wait();
    device->kernels().f32.add(a.as<float>(), a.as<float>(), b.as<float>(), n);
    transport->wait();
    std::vector<float> twice = values[generation], thrice = twice;
    for (int64_t i = 0; i < n; ++i) thrice[i] += twice[i] += twice[i];
    CHECK(read(b) == twice, "what was sent arrives, and is added");
    CHECK(read(a) == thrice, "the device waits for it");
    transport->abort();
    try {
      transport->wait();
      CHECK(false, "after abort()");
    } catch (const Error& e) {
      CHECK(e.code() == "ERR_EXCHANGE", e.code());
    }
  }
}

}  // namespace
}  // namespace orch::test
