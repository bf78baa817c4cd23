// The measured limits of a machine: its matmuls and, of a device, its memory; for benches, plans and
// `doctor`.
#pragma once
#include <cstdint>

#include "../core/dtype.h"
#include "../graph/device.h"

namespace orch {

/// Writes n standard normal numbers of a stream, for measurements: zeros would be faster than real values.
void draw_normal(graph::Device& device, void* to, DType type, int64_t n, uint64_t stream);

/// FLOP/s of m x n x k matmuls running on each of `threads` threads at once for about `seconds`. The operands
/// are standard normal, of type t; the product is fp32. The result is from each thread's median repetition,
/// in CPU time: the sustained rate, at the power that real numbers need.
double matmul_peak(DType t, int64_t m, int64_t n, int64_t k, int threads, double seconds);

/// The highest rates that a device reaches: of a copy (bytes read plus written) and of a large matmul.
struct Ceilings {
  double copy, matmul;  ///< bytes and FLOP per second
};
Ceilings device_ceilings(graph::Device& device, DType type);

}  // namespace orch
