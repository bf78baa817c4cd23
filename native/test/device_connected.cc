// Engines on emulated GPUs that exchange gradients with each other: the bits, when the exchange begins, and
// failures in the middle of it.
#include <algorithm>
#include <random>
#include <thread>

#include "devices.h"
#include "driver.h"
#include "engine/engine.h"
#include "training_set.h"

namespace orch::test {
namespace {

/// Two blocks, so three buckets.
const EngineSpec kSpec{
    {2, 1, 2, 4, 48, 32, 8, true, {}}, {1, 4, 4, 5}, DType::BF16, DType::BF16, 1, true, true};
constexpr size_t kBuckets = 3;

/// Slots [lo, hi) of a step; a slot has `accumulate` micro-batches of one sample.
AccumulateRequest request(int64_t step, const SlotRange& own, int64_t total, int64_t accumulate) {
  AccumulateRequest r{{}, total, 1.0f / static_cast<float>(total), 99, static_cast<uint32_t>(step), false};
  for (int64_t slot = own.lo; slot < own.hi; ++slot) {
    SampleBatch samples;
    for (int64_t i = 0; i < accumulate; ++i) {
      const int64_t id = slot * accumulate + i;
      append(samples, {{(step + id) % TrainingSet::kRows},
                       {0},
                       {0},
                       {0.6f, 0.4f, -1.0f, 1.0f, 1.5f, 400.0f},
                       {static_cast<uint64_t>(id)}});
    }
    r.slots.push_back({slot, samples});
  }
  return r;
}

struct Rank {
  std::unique_ptr<graph::Device> device;
  std::unique_ptr<Engine> engine;
  SlotRange slots;
  std::vector<float> weights;
  std::vector<double> norms;
  int64_t received = 0;
  size_t host_parts = 0;
  int replays = 0;                   ///< of recordings in this step
  std::vector<int> replayed_before;  ///< in this step: at each call of the transport, the replays before it
  int fails_in = -1;                 ///< calls until the transport fails; -1: it does not
  std::string error;
};

/// Engines that train together, each on its own thread.
struct Run {
  Run(int ranks, int64_t slots_, int64_t accumulate_) : slots(slots_), accumulate(accumulate_), all(ranks) {
    for (int r = 0; r < ranks; ++r) {
      Rank& rank = all[r];
      rank.device = kernels::cuda::make_emulated_device([&rank](int) {
        count_replays(rank);
        rank.replayed_before.push_back(rank.replays);
        if (rank.fails_in >= 0 && rank.fails_in-- == 0) throw Error("ERR_EXCHANGE", "planted");
      });
      rank.engine = std::make_unique<Engine>(kSpec, *rank.device);
      rank.engine->attach(set.data, kText);
      rank.slots = {r * slots / ranks, (r + 1) * slots / ranks};
      shares.push_back(rank.slots);
    }
  }

  static void count_replays(Rank& rank) {
    rank.replays += static_cast<int>(rank.device->take_launches().replays);
  }

  /// Calls work(rank number) on the driver of every engine.
  void together(const std::function<void(int)>& work) {
    std::vector<std::thread> threads;
    for (int r = 0; r < std::ssize(all); ++r)
      threads.emplace_back([&, r] {
        on_driver(*all[r].engine, [&] {
          work(r);
          return 0;
        });
      });
    for (auto& t : threads) t.join();
  }

  void start() {
    together([&](int r) { random_start(*all[r].engine); });
    connect();
  }
  void connect() {
    if (all.size() == 1) return;
    std::vector<std::string> addresses(all.size());
    together([&](int r) { addresses[r] = all[r].engine->rendezvous(r, shares); });
    together([&](int r) { all[r].engine->connect_devices(addresses[0]); });
  }

  void compute(Rank& rank, int64_t step) {
    rank.device->take_launches();
    rank.replays = 0;
    rank.replayed_before.clear();
    rank.engine->accumulate(request(step, rank.slots, slots, accumulate), [](int) {});
    count_replays(rank);
    for (const auto& part : rank.engine->parts()) rank.host_parts += part.data != nullptr;
  }
  void step(int64_t step) {
    together([&](int r) {
      Rank& rank = all[r];
      compute(rank, step);
      const auto norm = rank.engine->reduce();
      rank.norms.push_back(norm.norm);
      rank.received += norm.received;
      rank.engine->update({step, 1e-2, 0.9, 0.99, 1e-8, 0.01, 1.0, 0.9});
    });
  }
  /// A step that stops when a rank fails: then the others are aborted, as the coordinator does. Nothing is
  /// updated.
  void attempt(int64_t step) {
    together([&](int r) {
      Rank& rank = all[r];
      rank.error.clear();
      try {
        compute(rank, step);
        rank.engine->reduce();
      } catch (const Error& e) {
        rank.error = e.code() + " " + e.what();
        for (Rank& other : all) other.engine->abort_devices();
      }
    });
  }

  void finish() {
    for (Rank& rank : all) {
      const float* const w = rank.engine->state(State::Master);
      rank.weights.assign(w, w + rank.engine->table().length);
    }
  }

  const TrainingSet set{4 * 4 * 4};
  const int64_t slots, accumulate;
  std::vector<SlotRange> shares;
  std::vector<Rank> all;
};

/// Trains so many steps.
Run& trained(Run& run, int64_t steps) {
  run.start();
  for (int64_t step = 1; step <= steps; ++step) run.step(step);
  run.finish();
  return run;
}

TEST("device: connected engines train with the bits of one") {
  struct Case {
    int64_t slots, accumulate;
    std::vector<int> ranks;
  };
  for (const Case& c : {Case{5, 1, {2, 4}}, Case{4, 2, {3}}}) {
    // The third step is the first in which the last micro-batch is computed and exchanged by bucket.
    const int64_t steps = 3;
    Run one(1, c.slots, c.accumulate);
    const Rank& want = trained(one, steps).all[0];
    CHECK(want.norms.size() == 3 && want.norms[0] > 0 && want.norms[0] != want.norms[1] &&
          want.received == 0);
    for (const int ranks : c.ranks) {
      Run run(ranks, c.slots, c.accumulate);
      for (const Rank& got : trained(run, steps).all) {
        const std::string at =
            text(ranks, " ranks, ", got.slots.hi - got.slots.lo, " slots of ", c.accumulate);
        CHECK(got.weights == want.weights && got.norms == want.norms, at);
        CHECK(got.received > 0 && got.host_parts == 0, at, ": nothing comes to the host");
      }
    }
  }
}

TEST("device: the exchange of a bucket begins before the backward pass of the blocks before is launched") {
  const int64_t accumulate = 2;
  Run run(2, 3, accumulate);
  run.start();
  for (int64_t step = 1; step <= 3; ++step) {
    run.step(step);
    for (const Rank& rank : run.all) {
      const int64_t slots = rank.slots.hi - rank.slots.lo;
      const std::string at = text("step ", step, ", ", slots, " slots");
      std::vector<int> times = rank.replayed_before;  // without repetitions
      times.erase(std::unique(times.begin(), times.end()), times.end());
      // The micro-batches before are one recording each, the last one a recording for each bucket.
      const int before = static_cast<int>(slots * accumulate) - 1, all = before + static_cast<int>(kBuckets);
      if (step == 3)
        CHECK(times == (std::vector{before + 1, before + 2, all}) && rank.replays == all, at,
              ": begins after ", times.at(0), " of ", rank.replays, " recordings");
      else
        CHECK(times.size() == 1, at,
              ": what runs or is captured for the first time comes before the exchange");
    }
  }
}

TEST("device: gradients of other slots than its own are not exchanged, as in the search for a NaN") {
  Run run(2, 2, 1);
  run.start();
  for (int64_t step = 1; step <= 3; ++step) run.step(step);
  run.together([&](int r) {
    Rank& rank = run.all[r];
    rank.replayed_before.clear();
    rank.engine->accumulate(request(4, {0, 1}, 1, 1), [](int) {});
    CHECK(rank.engine->gradient_norm().norm > 0 && rank.replayed_before.empty(), "rank ", r);
  });
  run.step(4);
  Run one(1, 2, 1);
  trained(one, 4);
  run.finish();
  for (const Rank& rank : run.all) CHECK(rank.weights == one.all[0].weights);
}

TEST("device: an exchange that began must be completed before the next gradients") {
  Run run(2, 2, 1);
  run.start();
  std::vector<std::string> codes(2);
  run.together([&](int r) {
    run.compute(run.all[r], 1);
    try {
      run.compute(run.all[r], 1);
    } catch (const Error& e) {
      codes[r] = e.code();
    }
  });
  CHECK(codes == std::vector<std::string>(2, "ERR_INTERNAL"), codes[0]);
}

TEST("device: a rank that fails at any call of an exchange beside the backward pass leaves no trace") {
  const int ranks = 2;
  Run run(ranks, 3, 1);
  run.start();
  int64_t step = 1;
  for (; step <= 2; ++step) run.step(step);
  for (int call = 0;; ++call) {
    const int who = call % ranks;
    run.all[who].fails_in = call;
    run.attempt(step);
    const bool reached = run.all[who].fails_in < 0;
    run.all[who].fails_in = -1;
    for (int r = 0; r < ranks; ++r) {
      const std::string& error = run.all[r].error;
      const std::string at = text("call ", call, " of rank ", who, ", rank ", r, ": ", error);
      CHECK(error.find("NCCL's rules") == std::string::npos, at);
      if (r == who) CHECK(reached ? error.find("planted") != std::string::npos : error.empty(), at);
      CHECK(error.empty() || error.starts_with(text("ERR_EXCHANGE The exchange of rank ", r, " of 2")), at);
    }
    if (!reached) {
      CHECK(call > 10, "calls of a step: ", call);
      break;
    }
    run.connect();
    if (call % 4 == 3) run.step(step++);
  }
  run.step(step);
  run.finish();
  Run one(1, 3, 1);
  trained(one, step);
  for (const Rank& rank : run.all) CHECK(rank.weights == one.all[0].weights);
}

}  // namespace
}  // namespace orch::test
