// Snapshots of an engine on a GPU, copied beside its work. The emulator copies as late as allowed.
#include <algorithm>
#include <cstring>
#include <future>
#include <thread>

#include "devices.h"
#include "driver.h"
#include "engine/engine.h"
#include "training_set.h"

namespace orch::test {
namespace {

/// The host's wait for a download ends after the compute stream's, as long as it lives.
struct Held {
  Held() { emulate::hold_downloads = true; }
  ~Held() { emulate::hold_downloads = false; }
};

using Values = std::vector<float>;
using States = std::vector<Values>;

States states_of(Engine& e) {
  States all;
  for (State s : e.states()) {
    const float* const values = e.state(s);
    all.emplace_back(values, values + e.table().length);
  }
  return all;
}

/// The parameters in the last snapshot, without the padding between them.
void check_snapshot(Engine& e, const States& want, const std::string& at) {
  for (size_t s = 0; s < want.size(); ++s)
    for (size_t i = 0; i < e.table().parameters.size(); ++i) {
      const Parameter& p = e.table().parameters[i];
      CHECK(std::memcmp(e.snapshot_of(e.states()[s], i), &want[s][p.offset], sizeof(float) * p.length) == 0,
            at, ": state ", s, ", ", p.name);
    }
}

std::future<std::exception_ptr> order_snapshot(Engine& e) {
  const auto done = std::make_shared<std::promise<std::exception_ptr>>();
  e.pool().post([&e, done] { e.snapshot([done](std::exception_ptr why) { done->set_value(why); }); });
  return done->get_future();
}

std::string code_and_message(const std::exception_ptr& failure) {
  try {
    if (failure) std::rethrow_exception(failure);
    return "";
  } catch (const Error& e) {
    return e.code() + std::string(" ") + e.what();
  }
}

void step(Engine& e, int64_t number) {
  e.accumulate(
      {{{0, batch(number)}, {1, batch(number + 2)}}, 2, 0.25f, 99, static_cast<uint32_t>(number), false},
      [](int) {});
  const double norm = e.gradient_norm().norm;
  e.update({number, 1e-2, 0.9, 0.99, 1e-8, 0.01, std::min(1.0, 1.0 / norm), 0.9});
}

const ModelSpec kSmall{1, 1, 2, 4, 48, 32, 8, true, {}};

TEST("device snapshot: one after each step is of the state after it, and training keeps its bits") {
  const TrainingSet set(4 * 8 * 6);
  for (const TestedDevice& d : devices())
    for (const DType t : {DType::F32, DType::BF16}) {
      const EngineSpec spec{kSmall, {2, 8, 6, 5}, t, t, 1, true, true};
      constexpr int64_t kSteps = 4;  // the first ones run and capture, the later ones replay
      const std::string at = text(d.name, ", ", name_of(t));
      std::vector<States> want;
      Engine without(spec, d.device);
      without.attach(set.data, kText);
      on_driver(without, [&] {
        random_start(without);
        for (int64_t s = 1; s <= kSteps; ++s) {
          step(without, s);
          want.push_back(states_of(without));
        }
        return 0;
      });
      Engine with(spec, d.device);
      with.attach(set.data, kText);
      on_driver(with, [&] { return random_start(with), step(with, 1), 0; });
      for (int64_t s = 2; s <= kSteps; ++s) {
        std::future<std::exception_ptr> copied;
        {
          const Held held;
          copied = order_snapshot(with);
          on_driver(with, [&] { return step(with, s), 0; });
        }
        const std::string failure = code_and_message(copied.get());
        CHECK(failure.empty(), at, ": ", failure);
        if (!failure.empty()) return;
        check_snapshot(with, want[s - 2], text(at, ", step ", s - 1));
        CHECK(d.real || with.snapshot_stall() > 0, at, ": the update waited for the copy");
        CHECK(with.snapshot_pageable().empty(), at, ": ", with.snapshot_pageable());
      }
      // Here the copy is complete before the update.
      CHECK(!order_snapshot(with).get(), at);
      const States last = on_driver(with, [&] {
        auto states = states_of(with);
        step(with, kSteps + 1);
        return states;
      });
      CHECK(last == want.back(), at, ": the last state differs");
      check_snapshot(with, want.back(), text(at, ", the last step"));
      CHECK(with.snapshot_stall() == 0, at, ": nothing waited");
    }
}

TEST("device snapshot: one beside writes from the host is of the state before") {
  for (const TestedDevice& d : devices()) {
    Engine e({kSmall, {2, 8, 6, 5}, DType::F32, DType::F32, 1, true, true}, d.device);
    const States before = on_driver(e, [&] { return random_start(e), states_of(e); });
    const auto beside = [&](const char* what, const auto& write) {
      std::future<std::exception_ptr> copied;
      {
        const Held held;
        copied = order_snapshot(e);
        on_driver(e, [&] {
          for (State s : e.states()) std::fill_n(e.state(s), e.table().length, 3.0f);
          return write(), 0;
        });
      }
      CHECK(!copied.get(), d.name, ": ", what);
      check_snapshot(e, before, text(d.name, ": ", what));
      on_driver(e, [&] {
        for (size_t s = 0; s < before.size(); ++s)
          std::copy(before[s].begin(), before[s].end(), e.state(e.states()[s]));
        return e.parameters_changed(), 0;
      });
    };
    beside("parameters_changed", [&] { e.parameters_changed(); });
    beside("initialize", [&] { e.initialize(5); });
    beside("random_weights", [&] { e.random_weights(); });
  }
}

TEST("device snapshot: in several parts, also where memory cannot be page-locked") {
  const EngineSpec spec{
      {2, 4, 2, 4, 48, 32, 8, true, {}}, {1, 4, 4, 5}, DType::F32, DType::F32, 1, true, false};
  for (const TestedDevice& d : devices()) {
    if (d.real) continue;  // it has no memory that cannot be page-locked
    // The second array's first part is the last that can be.
    for (const int locks : {-1, 3, 0}) {
      const std::string at = text(locks, " page locks");
      emulate::page_locks = locks;
      Engine e(spec, d.device);
      CHECK(e.table().length > (1 << 22) && e.table().length < (1 << 23), e.table().length, " elements");
      States want = on_driver(e, [&] {
        for (State s : e.states()) {
          float* const values = e.state(s);
          for (int64_t i = 0; i < e.table().length; ++i)
            values[i] = static_cast<float>(i % 8191) + 0.25f * static_cast<float>(s);
        }
        return e.parameters_changed(), states_of(e);
      });
      for (int i = 0; i < 2; ++i) {
        const std::string failure = code_and_message(order_snapshot(e).get());
        CHECK(failure.empty(), at, ": ", failure);
        check_snapshot(e, want, at);
        CHECK(e.snapshot_pageable() == (locks < 0 ? "" : "No more memory can be page-locked"), at);
      }
      emulate::page_locks = -1;
    }
  }
}

TEST("device snapshot: its memory is got before, once, or beside the first one, or not at all") {
  const EngineSpec spec{
      {2, 4, 2, 4, 48, 32, 8, true, {}}, {1, 4, 4, 5}, DType::F32, DType::F32, 1, true, false};
  for (const TestedDevice& d : devices()) {
    const int64_t before = memory_use().current;
    for (const bool waits : {true, false}) {
      Engine e(spec, d.device);
      on_driver(e, [&] { return e.initialize(7), 0; });
      const int64_t arrays = std::ssize(e.states()), parts = 2 * arrays;
      if (!d.real) emulate::page_locks = static_cast<int>(parts);  // none can be locked twice
      const int64_t empty = memory_use().current;
      for (int i = 0; i < 2; ++i) on_driver(e, [&] { return e.prepare_snapshot(), 0; });
      const int64_t bytes = arrays * static_cast<int64_t>(sizeof(float)) * e.table().length;
      while (waits && memory_use().current < empty + bytes)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      const States want = on_driver(e, [&] { return states_of(e); });
      CHECK(!order_snapshot(e).get());
      check_snapshot(e, want, d.name);
      CHECK(e.snapshot_pageable().empty(), e.snapshot_pageable());
      if (!d.real) CHECK(emulate::page_locks == 0, emulate::page_locks.load(), " parts are not locked");
    }
    {
      Engine e(spec, d.device);  // is destroyed meanwhile
      on_driver(e, [&] { return e.prepare_snapshot(), 0; });
    }
    CHECK(d.real || memory_use().current == before, memory_use().current - before, " bytes are left");
    emulate::page_locks = -1;
  }
}

TEST("device snapshot: one that fails is told, and training and the next one go on") {
  const TrainingSet set(4 * 8 * 6);
  Engine e({kSmall, {2, 8, 6, 5}, DType::F32, DType::F32, 1, true, true}, kernels::cuda::emulated_device());
  e.attach(set.data, kText);
  on_driver(e, [&] { return random_start(e), step(e, 1), 0; });
  emulate::failing_downloads = 1;
  std::future<std::exception_ptr> copied;
  {
    const Held held;
    copied = order_snapshot(e);
    on_driver(e, [&] { return step(e, 2), 0; });
  }
  const std::string failure = code_and_message(copied.get());
  CHECK(failure == "ERR_CUDA The device failed", failure);
  const States want = on_driver(e, [&] { return states_of(e); });
  CHECK(!order_snapshot(e).get());
  check_snapshot(e, want, "the next one");
}

TEST("device snapshot: an engine that is destroyed meanwhile waits for the copy, and frees all memory") {
  const int64_t before = memory_use().current;
  std::future<std::exception_ptr> copied;
  std::thread later;
  {
    Engine e({kSmall, {2, 8, 6, 5}, DType::F32, DType::F32, 1, true, true}, kernels::cuda::emulated_device());
    emulate::hold_downloads = true;
    copied = order_snapshot(e);
    later = std::thread([] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      emulate::hold_downloads = false;
    });
  }
  later.join();
  CHECK(!copied.get(), "the copy was complete");
  CHECK(memory_use().current == before, memory_use().current - before, " bytes are left");
}

TEST("device snapshot: the emulator finds a download that does not wait, and one that nothing waits for") {
  graph::Device& d = kernels::cuda::emulated_device();
  constexpr size_t kBytes = 4096;
  const Buffer source = d.allocate(kBytes), to(kBytes);
  const auto locked = d.page_lock(to.data(), kBytes);
  const auto failure_of = [&](const auto& work) -> std::string {
    try {
      work();
      return "";
    } catch (const Error& e) {
      return e.what();
    }
  };
  const auto download = [&] { d.download_async(to.data(), source.data(), kBytes); };
  d.make_snapshot_stream_wait();
  d.fill(source.data(), 1, kBytes);
  download();
  std::string found = failure_of([&] { d.await_download(); });
  CHECK(found == "What is downloaded was written after the streams had waited for each other", found);
  d.make_snapshot_stream_wait();
  download();
  d.fill(source.data(), 2, kBytes);  // without wait_for_snapshot_stream()
  found = failure_of([&] { d.await_download(); });
  CHECK(found == "What is downloaded was written after the streams had waited for each other", found);
  d.make_snapshot_stream_wait();
  download();
  CHECK(to.as<uint8_t>()[5] == 0xff, "until it runs there is nothing");
  d.wait_for_snapshot_stream();
  d.fill(source.data(), 3, kBytes);
  d.await_download();
  CHECK(to.as<uint8_t>()[0] == 2 && to.as<uint8_t>()[kBytes - 1] == 2, "what it was");
  const Buffer later = d.allocate(kBytes);
  found = failure_of([&] { d.download_async(to.data(), later.data(), kBytes); });
  CHECK(found == "A download of memory that the device did not have when the streams waited", found);
}

}  // namespace
}  // namespace orch::test
