// What each source of this folder contributes to the device's table of kernels.
#pragma once
#include "../kernels.h"
#include "context.h"
#include "functions.h"

namespace orch::kernels::cuda {

/// The same functions as the CPU's table has, on pointers of the device. They return when the work is queued,
/// except where they return a number.
const Table& table();

void fill_layer_norm(Table& t);
void fill_gate(Table& t);
void fill_heads(Table& t);
void fill_attention(Table& t);
void fill_elementwise(Table& t);
void fill_patch(Table& t);
void fill_noise(Table& t);
void fill_reduce(Table& t);
void fill_adamw(Table& t);

/// Rows of a chunk in which the backward pass sums a sample's tokens, and how many lanes sum them at a time:
/// lane r adds up rows r, r + kGradientLanes, ..., then the lanes are added in order, then the chunks.
constexpr int kGradientRows = 32, kGradientLanes = 4;

/// out0[sample * stride + i], i < width, and out1 likewise with the next `width` columns (if not null), from
/// partial sums [samples, chunks, width or 2 width], added in the order of the chunks.
void sum_chunks(float* out0, float* out1, const float* partial, int64_t samples, int64_t chunks,
                int64_t width, int64_t stride);

}  // namespace orch::kernels::cuda
