// Timing of single kernels: the best of many short repetitions, so that other work on the machine matters
// little.
#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/memory.h"

namespace orch::bench {

inline double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Seconds of the fastest repetition in about `seconds` (at least five).
template <class Run>
double best_time(double seconds, Run run) {
  run();
  double best = 1e30;
  const double end = now() + seconds;
  for (int i = 0; i < 5 || now() < end; ++i) {
    const double start = now();
    run();
    const double t = now() - start;
    best = t < best ? t : best;
  }
  return best;
}

/// One line of the report: a kernel with what it moves or computes.
struct Kernel {
  std::string name;
  double bytes;  ///< read and written, when memory is what limits it
  double flops;  ///< of its matmuls, when they are
  std::function<void()> run;
};

struct Shape {
  const char* name;
  int64_t samples, tokens, context, heads;  ///< of a slot
};

/// Every kernel of a training step at a shape, storage type bf16 or fp32. Buffers live as long as the result.
std::vector<Kernel> kernels_of(const Shape& shape, bool bf16);
/// The matmuls of a block at a shape.
std::vector<Kernel> matmuls_of(const Shape& shape, bool bf16);

/// The benches of a GPU: what follows --cuda on the command line.
int cuda_main(int argc, char** argv);

}  // namespace orch::bench
