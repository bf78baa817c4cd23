// Timing of single kernels: the best of many short repetitions, which reduces the influence of other work on
// the machine.
#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/memory.h"
#include "engine/requests.h"
#include "graph/device.h"

namespace orch::bench {

inline double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Seconds of the fastest repetition within about `seconds` (at least five repetitions).
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

/// One line of the report: a kernel and what it moves or computes.
struct Kernel {
  std::string name;
  double bytes;  ///< bytes read and written, if memory is the limit
  double flops;  ///< of its matmuls, if compute is the limit
  std::function<void()> run;
};

struct Shape {
  const char* name;
  int64_t samples, tokens, context, heads;  ///< of a slot
};

/// Every kernel of a training step at a shape, with storage type bf16 or fp32. Buffers live as long as the
/// result.
std::vector<Kernel> kernels_of(const Shape& shape, bool bf16);
/// The matmuls of a block at a shape.
std::vector<Kernel> matmuls_of(const Shape& shape, bool bf16);

/// The GPU benches; the arguments are those after --cuda on the command line.
int cuda_main(int argc, char** argv);
/// Prints what snapshots of an engine's state cost its steps, in page-locked and in pageable memory.
void measure_snapshots(graph::Device& device, const EngineSpec& spec);

}  // namespace orch::bench
