// What each source in this folder adds to the device's table of kernels.
#pragma once
#include "../kernels.h"
#include "context.h"
#include "functions.h"

namespace orch::kernels::cuda {

/// The functions of the CPU's table, on device pointers. They return when the work is enqueued, except those
/// that return a number.
const Table& table();

#define ORCH_CUDA_FAMILIES(EACH) ORCH_KERNEL_FAMILIES(EACH) EACH(gate)
ORCH_CUDA_FAMILIES(ORCH_DECLARE_FAMILY)

/// The backward pass sums a sample's tokens in chunks of kGradientRows rows, with kGradientLanes lanes: lane
/// r adds rows r, r + kGradientLanes, ...; then the lanes are added in order, then the chunks.
constexpr int kGradientRows = 32, kGradientLanes = 4;

/// Rows of sums, one for each sample, `stride` elements apart.
struct SumRows {
  float* to;
  int64_t stride;
};
struct SumOutputs {
  SumRows each[3];
};
/// The sums of the first `count` outputs, from partial sums [samples, chunks, count, width], added in an
/// order that depends on the number of chunks alone.
void sum_chunks(const SumOutputs& outputs, int count, const float* partial, int64_t samples, int64_t chunks,
                int64_t width);

}  // namespace orch::kernels::cuda
