// orch_bench --cuda snapshot SHAPE: what a copy of the state for a checkpoint costs training.
#include <algorithm>
#include <cstdio>
#include <future>

#include "bench.h"
#include "core/error.h"
#include "engine/engine.h"

namespace orch::bench {
namespace {

constexpr int kRounds = 5;

/// One training step of so many micro-batches: seconds until the GPU has done it.
double step(Engine& e, int64_t number, int micro_batches) {
  const double start = now();
  e.run_random_slots(1, micro_batches, false);
  const double norm = e.gradient_norm().norm;
  e.update({number, 1e-6, 0.9, 0.999, 1e-8, 0.01, std::min(1.0, 1.0 / norm), 1});
  e.device().synchronize();
  return now() - start;
}

/// Seconds from the order to the end of the copy.
class Ordered {
 public:
  explicit Ordered(Engine& e) : start_(now()) {
    e.snapshot([this](std::exception_ptr failure) {
      end_ = now();
      done_.set_value(failure);
    });
  }
  double wait() {
    if (const auto failure = done_.get_future().get()) std::rethrow_exception(failure);
    return end_ - start_;
  }

 private:
  double start_, end_ = 0;
  std::promise<std::exception_ptr> done_;
};

struct Rounds {
  std::vector<double> step, copy, stall;
  void print(const char* what, double bytes) const {
    const auto median = [](std::vector<double> v) {
      std::sort(v.begin(), v.end());
      return v[v.size() / 2];
    };
    const double copy_seconds = median(copy);
    std::printf("  %-26s step %8.1f ms, copy %8.1f ms = %5.1f GB/s, update waited %8.1f ms\n", what,
                1e3 * median(step), 1e3 * copy_seconds, 1e-9 * bytes / copy_seconds, 1e3 * median(stall));
  }
};

/// A step beside each snapshot, and each snapshot before its step, alternating.
void measure(Engine& e, int64_t& number, int micro_batches, double bytes) {
  Rounds beside, before;
  std::vector<double> alone;
  for (int i = 0; i < kRounds; ++i) {
    alone.push_back(step(e, ++number, micro_batches));
    {
      Ordered snapshot(e);
      beside.step.push_back(step(e, ++number, micro_batches));
      beside.copy.push_back(snapshot.wait());
      beside.stall.push_back(e.snapshot_stall());
    }
    const double start = now();
    Ordered snapshot(e);
    before.copy.push_back(snapshot.wait());
    step(e, ++number, micro_batches);
    before.step.push_back(now() - start);
    before.stall.push_back(before.copy.back());
  }
  std::sort(alone.begin(), alone.end());
  std::printf(" %d micro-batches: step alone %.1f ms\n", micro_batches, 1e3 * alone[kRounds / 2]);
  beside.print("with the copy beside", bytes);
  before.print("after the copy", bytes);
}

}  // namespace

void measure_snapshots(graph::Device& device, const EngineSpec& spec) {
  for (const bool locked : {true, false}) {
    Engine e(spec, device);
    e.random_weights();
    if (!locked) e.leave_snapshots_pageable();
    const double bytes = 4.0 * static_cast<double>(e.table().length) * static_cast<double>(e.states().size());
    std::printf("%s memory, %.2f GB of state\n", locked ? "page-locked" : "pageable", 1e-9 * bytes);
    int64_t number = 0;
    for (int i = 0; i < 3; ++i) step(e, ++number, 1);  // the first ones capture
    {
      Ordered snapshot(e);
      const double seconds = step(e, ++number, 1);
      std::printf(" the first one, which gets the memory: step of 1 micro-batch %.1f ms, ", 1e3 * seconds);
      std::printf("copy %.1f ms, update waited %.1f ms\n", 1e3 * snapshot.wait(), 1e3 * e.snapshot_stall());
    }
    if (locked && !e.snapshot_pageable().empty())
      throw Error("ERR_CUDA", "The memory is not page-locked: ", e.snapshot_pageable());
    for (const int micro_batches : {1, 4, 16}) measure(e, number, micro_batches, bytes);
    std::vector<double> digests;
    for (int i = 0; i < kRounds; ++i) {
      const double start = now();
      e.digest();
      digests.push_back(now() - start);
    }
    std::sort(digests.begin(), digests.end());
    std::printf(" digest of the state %.1f ms = %.0f GB/s\n", 1e3 * digests[kRounds / 2],
                1e-9 * bytes / digests[kRounds / 2]);
    std::fflush(stdout);
  }
}

}  // namespace orch::bench
