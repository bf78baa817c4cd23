// Joint attention backward in bf16 for heads of 64 channels. Probabilities are recomputed from the
// log-sum-exp, once for the gradients of keys and values (a block processes 128 keys against all queries) and
// once for those of the queries (128 queries against all keys). No gradient is therefore added to by several
// blocks, at the cost of 7 products instead of the 5 that atomic additions would need.
#include "attention_parts.h"

namespace orch::kernels::cuda {
namespace {

constexpr int kWarps = 8, kThreads = kWarps * kWarp;
constexpr int kOwn = kWarps * 16;  ///< rows per block, 16 per warp
constexpr int kStep = 64;          ///< rows of the other side per step
constexpr int kOwnBytes = kOwn * kRowBytes, kStepBytes = kStep * kRowBytes;
constexpr size_t kTileShared = 2 * kOwnBytes + 4 * kStepBytes;
constexpr size_t kRowShared = 4 * kStep * sizeof(float);  // log-sum-exp and delta, double-buffered

__global__ void __launch_bounds__(kThreads)
    of_queries(bf16* dq, StreamRows<const bf16> gradients, const float* lse, const float* delta,
               const bf16* q, const bf16* k, const bf16* v, AttentionDims d, unsigned blocks_of_head) {
  GPU_SHARED(memory);
  unsigned char *const queries = memory, *const douts = memory + kOwnBytes;
  const auto keys = [&](int buffer) { return memory + 2 * kOwnBytes + buffer * 2 * kStepBytes; };
  const auto values = [&](int buffer) { return keys(buffer) + kStepBytes; };

  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, g = lane / 4, t = lane % 4;
  const int64_t bh = d.from + blockIdx.x / blocks_of_head, sample = bh / d.heads, head = bh % d.heads;
  const int64_t first = d.first_query + static_cast<int64_t>(blockIdx.x % blocks_of_head) * kOwn;
  const int64_t at = bh * d.tokens * kHeadDim;
  const auto load_keys = [&](int64_t start, int buffer) {
    const int64_t valid = d.tokens - start;
    copy_tile<kStep, kThreads>(keys(buffer), valid, [&](int r) { return k + at + (start + r) * kHeadDim; });
    copy_tile<kStep, kThreads>(values(buffer), valid, [&](int r) { return v + at + (start + r) * kHeadDim; });
    commit_copies();
  };
  copy_tile<kOwn, kThreads>(queries, d.tokens - first,
                            [&](int r) { return q + at + (first + r) * kHeadDim; });
  copy_tile<kOwn, kThreads>(douts, d.tokens - first,
                            [&](int r) { return gradients.at(d, sample, head, first + r); });
  load_keys(0, 0);

  float base[2], row_delta[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int64_t row = first + warp * 16 + r * 8 + g;
    base[r] = row < d.tokens ? lse[bh * d.tokens + row] * kLog2e : INFINITY;
    row_delta[r] = row < d.tokens ? delta[bh * d.tokens + row] : 0;
  }
  uint32_t query[4][4], dout[4][4];
  float sum[8][4] = {};
  int buffer = 0;
  for (int64_t start = 0; start < d.tokens; start += kStep, buffer ^= 1) {
    wait_for_copies<0>();
    __syncthreads();
    if (start == 0)
#pragma unroll
      for (int step = 0; step < 4; ++step) {
        left_operand(query[step], queries, warp * 16, step);
        left_operand(dout[step], douts, warp * 16, step);
      }
    if (start + kStep < d.tokens) load_keys(start + kStep, buffer ^ 1);

    float s[8][4] = {}, dp[8][4] = {};
    products<1>(&s, &query, keys(buffer));
    products<1>(&dp, &dout, values(buffer));
    const int64_t left = d.tokens - start;
#pragma unroll
    for (int n = 0; n < 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float p = fast_exp2(s[n][e] * kScaleLog2e - base[e / 2]);
        s[n][e] = left < kStep && n * 8 + 2 * t + e % 2 >= left ? 0 : p * (dp[n][e] - row_delta[e / 2]);
      }
    accumulate<1>(&sum, &s, keys(buffer));
  }
  store_rows(dq + at, sum, kScale, first + warp * 16, d.tokens);
}

__global__ void __launch_bounds__(kThreads)
    of_keys(bf16* dk, bf16* dv, StreamRows<const bf16> gradients, const float* lse, const float* delta,
            const bf16* q, const bf16* k, const bf16* v, AttentionDims d, unsigned blocks_of_head) {
  GPU_SHARED(memory);
  unsigned char *const keys = memory, *const values = memory + kOwnBytes;
  const auto queries = [&](int buffer) { return memory + 2 * kOwnBytes + buffer * 2 * kStepBytes; };
  const auto douts = [&](int buffer) { return queries(buffer) + kStepBytes; };
  float* const rows = reinterpret_cast<float*>(memory + kTileShared);  // [2 buffers][lse, delta][kStep]

  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, t = lane % 4;
  const int64_t bh = d.from + blockIdx.x / blocks_of_head, sample = bh / d.heads, head = bh % d.heads;
  const int64_t first = static_cast<int64_t>(blockIdx.x % blocks_of_head) * kOwn;
  const int64_t at = bh * d.tokens * kHeadDim;
  const auto load_queries = [&](int64_t start, int buffer) {
    const int64_t valid = d.tokens - start;
    copy_tile<kStep, kThreads>(queries(buffer), valid,
                               [&](int r) { return q + at + (start + r) * kHeadDim; });
    copy_tile<kStep, kThreads>(douts(buffer), valid,
                               [&](int r) { return gradients.at(d, sample, head, start + r); });
    commit_copies();
    if (const int r = threadIdx.x; r < kStep) {
      const int64_t row = bh * d.tokens + start + r;
      rows[buffer * 2 * kStep + r] = r < valid ? lse[row] * kLog2e : INFINITY;  // gives probability 0
      rows[buffer * 2 * kStep + kStep + r] = r < valid ? delta[row] : 0;
    }
  };
  copy_tile<kOwn, kThreads>(keys, d.tokens - first, [&](int r) { return k + at + (first + r) * kHeadDim; });
  copy_tile<kOwn, kThreads>(values, d.tokens - first, [&](int r) { return v + at + (first + r) * kHeadDim; });
  load_queries(d.first_query, 0);

  uint32_t key[4][4], value[4][4];
  float sum_k[8][4] = {}, sum_v[8][4] = {};
  int buffer = 0;
  for (int64_t start = d.first_query; start < d.tokens; start += kStep, buffer ^= 1) {
    wait_for_copies<0>();
    __syncthreads();
    if (start == d.first_query)
#pragma unroll
      for (int step = 0; step < 4; ++step) {
        left_operand(key[step], keys, warp * 16, step);
        left_operand(value[step], values, warp * 16, step);
      }
    if (start + kStep < d.tokens) load_queries(start + kStep, buffer ^ 1);

    // Rows are keys, columns queries.
    float s[8][4] = {}, dp[8][4] = {};
    products<1>(&s, &key, queries(buffer));
    products<1>(&dp, &value, douts(buffer));
    const float* const of = rows + buffer * 2 * kStep;
#pragma unroll
    for (int n = 0; n < 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int column = n * 8 + 2 * t + e % 2;
        s[n][e] = fast_exp2(s[n][e] * kScaleLog2e - of[column]);
        dp[n][e] = s[n][e] * (dp[n][e] - of[kStep + column]);
      }
    accumulate<1>(&sum_v, &s, douts(buffer));
    accumulate<1>(&sum_k, &dp, queries(buffer));
  }
  store_rows(dk + at, sum_k, kScale, first + warp * 16, d.tokens);
  store_rows(dv + at, sum_v, 1.0f, first + warp * 16, d.tokens);
}

}  // namespace

void own_attention_backward(bf16* dq, bf16* dk, bf16* dv, StreamRows<const bf16> dout,
                            StreamRows<const bf16> out, const float* lse, const bf16* q, const bf16* k,
                            const bf16* v, const AttentionDims& d) {
  if (has_warpgroups()) return warpgroup_attention_backward(dq, dk, dv, dout, out, lse, q, k, v, d);
  const unsigned heads = static_cast<unsigned>(d.to - d.from);
  float* delta = workspace<float>(d.samples * d.heads * d.tokens);
  row_products(delta, dout, out, d);
  const unsigned key_blocks = blocks(d.tokens, kOwn), query_blocks = blocks(d.tokens - d.first_query, kOwn);
  launch(of_keys, key_blocks * heads, kThreads, kTileShared + kRowShared, dk, dv, dout, lse, delta, q, k, v,
         d, key_blocks);
  launch(of_queries, query_blocks * heads, kThreads, kTileShared, dq, dout, lse, delta, q, k, v, d,
         query_blocks);
}

void attention_half_backward(bf16* dq, bf16* dk, bf16* dv, StreamRows<const bf16> dout,
                             StreamRows<const bf16> out, const float* lse, const bf16* q, const bf16* k,
                             const bf16* v, const AttentionDims& d, void*) {
  if (!attention_backward_by_library(dq, dk, dv, dout, out, lse, q, k, v, d))
    own_attention_backward(dq, dk, dv, dout, out, lse, q, k, v, d);
}

}  // namespace orch::kernels::cuda
