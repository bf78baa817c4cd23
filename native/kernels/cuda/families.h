// What each source in this folder adds to the device's table of kernels.
#pragma once
#include "../kernels.h"
#include "context.h"
#include "functions.h"

namespace orch::kernels::cuda {

/// The functions of the CPU's table, on device pointers. They return when the work is enqueued, except those
/// that return a number.
const Table& table();

#define ORCH_CUDA_FAMILIES(EACH) ORCH_KERNEL_FAMILIES(EACH) EACH(gate) EACH(quantize)
ORCH_CUDA_FAMILIES(ORCH_DECLARE_FAMILY)

/// The backward pass sums a sample's tokens in chunks of kGradientRows rows, with kGradientLanes lanes: lane
/// r adds rows r, r + kGradientLanes, ...; then the lanes are added in order, then the chunks.
constexpr int kGradientRows = 32, kGradientLanes = 4;

/// out0[sample * stride + i], i < width, and out1 (if not null) likewise with the next `width` columns, from
/// partial sums [samples, chunks, width or 2 width], added in the order of the chunks.
void sum_chunks(float* out0, float* out1, const float* partial, int64_t samples, int64_t chunks,
                int64_t width, int64_t stride);

}  // namespace orch::kernels::cuda
