// What the kernels of attention share.
#pragma once
#include "families.h"

namespace orch::kernels::cuda {

constexpr float kScale = 0.125f;  // 1 / sqrt(64)
constexpr float kLog2e = 1.44269504f;
constexpr float kScaleLog2e = kScale * kLog2e;

/// One block's part of the statistics, by the stream of the query.
struct StatsPart {
  double entropy[2];
  float largest[2];
};
/// The larger of two sizes; NaN if the second is. (fmaxf ignores NaN.)
GPU_INLINE float larger(float a, float b) { return b > a || b != b ? b : a; }
/// Adds a row of a stream to a thread's statistics, by stream: its largest |logit| and its entropy.
GPU_INLINE void add_row(float (&largest)[2], float (&entropy)[2], bool second, float size, float nats) {
#pragma unroll
  for (int stream = 0; stream < 2; ++stream)  // constant indices keep the numbers in registers
    if (second == (stream == 1)) {
      largest[stream] = larger(largest[stream], size);
      entropy[stream] += nats;
    }
}
/// Stores the statistics of the block's threads, added in order, when no thread reads shared memory any more.
template <int Warps>
GPU_INLINE void store_part(StatsPart* part, unsigned char* memory, const float (&largest)[2],
                           const float (&entropy)[2]) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  __syncthreads();
  float* const each = reinterpret_cast<float*>(memory);  // by warp and stream
  for (int stream = 0; stream < 2; ++stream) {
    const float size = largest[stream], most = max_lanes(size), nats = sum_lanes(entropy[stream]);
    const bool poisoned = sum_lanes(size != size ? 1.0f : 0.0f) > 0;  // max_lanes ignores NaN
    if (lane > 0) continue;
    each[2 * (2 * warp + stream)] = poisoned ? NAN : most;
    each[2 * (2 * warp + stream) + 1] = nats;
  }
  __syncthreads();
  if (threadIdx.x > 0) return;
  StatsPart all{};
  for (int i = 0; i < 2 * Warps; ++i) {
    all.largest[i % 2] = larger(all.largest[i % 2], each[2 * i]);
    all.entropy[i % 2] += static_cast<double>(each[2 * i + 1]);
  }
  *part = all;
}
/// Adds the parts, in order, into *stats.
void sum_stats(AttentionStats* stats, const StatsPart* parts, int64_t count, const AttentionDims& d);
/// delta [samples, heads, tokens] = rowsum(dout * out) of the computed rows.
template <class T>
void row_products(float* delta, StreamRows<const T> dout, StreamRows<const T> out, const AttentionDims& d);

// In attention.cu and attention_backward.cu, on tensor cores.
std::remove_pointer_t<decltype(Typed<bf16>::attention)> attention_half;
std::remove_pointer_t<decltype(Typed<bf16>::attention_backward)> attention_half_backward;

// The kernels of this project alone.
void own_attention(StreamRows<bf16> out, float* lse, AttentionStats* stats, const bf16* q, const bf16* k,
                   const bf16* v, const AttentionDims& d);
void own_attention_backward(bf16* dq, bf16* dk, bf16* dv, StreamRows<const bf16> dout,
                            StreamRows<const bf16> out, const float* lse, const bf16* q, const bf16* k,
                            const bf16* v, const AttentionDims& d);

// In attention_warpgroup.cu and attention_warpgroup_backward.cu, where has_warpgroups().
std::remove_pointer_t<decltype(own_attention)> warpgroup_attention;
std::remove_pointer_t<decltype(own_attention_backward)> warpgroup_attention_backward;

// In attention_library.cu; false if no library serves the shape.
bool attention_by_library(StreamRows<bf16> out, float* lse, const bf16* q, const bf16* k, const bf16* v,
                          const AttentionDims& d);
bool attention_backward_by_library(bf16* dq, bf16* dk, bf16* dv, StreamRows<const bf16> dout,
                                   StreamRows<const bf16> out, const float* lse, const bf16* q, const bf16* k,
                                   const bf16* v, const AttentionDims& d);

// --- tiles of rows of 64 bf16 in shared memory
//
// Swizzled: the 16-byte chunks of a row are permuted by the row's number, so that the same chunk of eight
// rows lies in different banks.
constexpr int kRowBytes = 128;
GPU_INLINE unsigned char* chunk_at(unsigned char* tile, int row, int chunk) {
  return tile + row * kRowBytes + ((chunk ^ (row & 7)) << 4);
}
/// Starts copying rows [0, Rows) of a tile; row(i) is the address of row i. Rows from `valid` on become
/// zeros.
template <int Rows, int Threads, class Address>
GPU_INLINE void copy_tile(unsigned char* tile, int64_t valid, Address row) {
#pragma unroll
  for (int i = 0; i < Rows * 8 / Threads; ++i) {
    const int at = i * Threads + static_cast<int>(threadIdx.x), r = at / 8, chunk = at % 8;
    const bool inside = r < valid;
    copy_async(chunk_at(tile, r, chunk), row(inside ? r : 0) + chunk * 8, inside);
  }
}
/// The left operand of a product over the channels [16 step, 16 step + 16): rows [first, first + 16).
GPU_INLINE void left_operand(uint32_t (&a)[4], unsigned char* tile, int first, int step) {
  const int lane = threadIdx.x % kWarp;
  load_matrices<false>(a, chunk_at(tile, first + lane % 16, 2 * step + lane / 16));
}
/// Right operands of a product over the channels [16 step, 16 step + 16), with one column for each row in
/// [first, first + 16): b[0], b[1] for the first eight rows, b[2], b[3] for the others.
GPU_INLINE void right_by_channels(uint32_t (&b)[4], unsigned char* tile, int first, int step) {
  const int lane = threadIdx.x % kWarp;
  load_matrices<false>(b, chunk_at(tile, first + lane / 16 * 8 + lane % 8, 2 * step + lane / 8 % 2));
}
/// Right operands of a product over the rows [first, first + 16), with one column for each channel in [16
/// pair, 16 pair + 16), in the same order.
GPU_INLINE void right_by_rows(uint32_t (&b)[4], unsigned char* tile, int first, int pair) {
  const int lane = threadIdx.x % kWarp;
  load_matrices<true>(b, chunk_at(tile, first + lane % 16, 2 * pair + lane / 16));
}

// --- sums of a warp's 16 rows and 64 columns, in the layout of multiply_add
//
/// The left operand of a product that sums over the columns [16 step, 16 step + 16) of the sums, rounded to
/// bf16.
GPU_INLINE void sums_as_left(uint32_t (&a)[4], const float (&sums)[8][4], int step) {
#pragma unroll
  for (int half = 0; half < 4; ++half) {
    const float* const x = &sums[2 * step + half / 2][half % 2 * 2];
    a[half] = pack2(x[0], x[1]);
  }
}
/// Stores rows [first, first + 16) of [.., 64] that are below `end`, multiplied by `factor`.
GPU_INLINE void store_rows(bf16* to, const float (&x)[8][4], float factor, int64_t first, int64_t end) {
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int64_t row = first + r * 8 + g;
    if (row >= end) continue;
#pragma unroll
    for (int n = 0; n < 8; ++n)
      *reinterpret_cast<uint32_t*>(to + row * kHeadDim + n * 8 + 2 * t) =
          pack2(x[n][2 * r] * factor, x[n][2 * r + 1] * factor);
  }
}

// --- products of tiles of 16 rows with a tile of 64 rows in shared memory
//
/// s[i] += the rows of left operand i times the rows of the tile, summed over the channels.
template <int Tiles>
GPU_INLINE void products(float (*s)[8][4], const uint32_t (*left)[4][4], unsigned char* tile) {
#pragma unroll
  for (int step = 0; step < 4; ++step)
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) {
      uint32_t b[4];
      right_by_channels(b, tile, pair * 16, step);
#pragma unroll
      for (int i = 0; i < Tiles; ++i) {
        multiply_add(s[i][2 * pair], left[i][step], b[0], b[1]);
        multiply_add(s[i][2 * pair + 1], left[i][step], b[2], b[3]);
      }
    }
}
/// sum[i] += weights[i] (rounded to bf16) times the rows of the tile.
template <int Tiles>
GPU_INLINE void accumulate(float (*sum)[8][4], const float (*weights)[8][4], unsigned char* tile) {
#pragma unroll
  for (int step = 0; step < 4; ++step) {
    uint32_t a[Tiles][4];
#pragma unroll
    for (int i = 0; i < Tiles; ++i) sums_as_left(a[i], weights[i], step);
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) {
      uint32_t b[4];
      right_by_rows(b, tile, step * 16, pair);
#pragma unroll
      for (int i = 0; i < Tiles; ++i) {
        multiply_add(sum[i][2 * pair], a[i], b[0], b[1]);
        multiply_add(sum[i][2 * pair + 1], a[i], b[2], b[3]);
      }
    }
  }
}

}  // namespace orch::kernels::cuda
