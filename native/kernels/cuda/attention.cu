// Joint attention forward in bf16 for heads of 64 channels (Dao, "FlashAttention-2", ICLR 2024). A block
// processes 128 queries of a head against all keys, 64 at a time; each warp has 32 queries. Products run on
// tensor cores, the softmax in fp32 registers. Statistics use what the softmax computes anyway; beside a
// library's attention, which has none, the kernel computes them alone.
#include "attention_parts.h"

namespace orch::kernels::cuda {
namespace {

constexpr int kWarps = 4, kThreads = kWarps * kWarp;
constexpr int kTiles = 2;                       ///< tiles of 16 queries per warp
constexpr int kQueries = kWarps * kTiles * 16;  ///< queries per block
constexpr int kKeys = 64;                       ///< keys per step
constexpr int kQueryBytes = kQueries * kRowBytes, kKeyBytes = kKeys * kRowBytes;
constexpr size_t kShared = kQueryBytes + 4 * kKeyBytes;  // queries; keys and values, double-buffered

template <bool Output, bool Stats>
__global__ void __launch_bounds__(kThreads, 2)
    forward(StreamRows<bf16> outputs, float* lse, StatsPart* parts, const bf16* q, const bf16* k,
            const bf16* v, AttentionDims d, unsigned blocks_of_head) {
  GPU_SHARED(memory);
  unsigned char* const queries = memory;
  const auto keys = [&](int buffer) { return memory + kQueryBytes + buffer * 2 * kKeyBytes; };
  const auto values = [&](int buffer) { return keys(buffer) + kKeyBytes; };

  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, g = lane / 4, t = lane % 4;
  const int64_t bh = d.from + blockIdx.x / blocks_of_head, sample = bh / d.heads, head = bh % d.heads;
  const int64_t first = d.first_query + static_cast<int64_t>(blockIdx.x % blocks_of_head) * kQueries;
  const bf16 *qh = q + (bh * d.tokens + first) * kHeadDim, *kh = k + bh * d.tokens * kHeadDim,
             *vh = v + bh * d.tokens * kHeadDim;
  const auto load_keys = [&](int64_t start, int buffer) {
    const int64_t valid = d.tokens - start;
    copy_tile<kKeys, kThreads>(keys(buffer), valid, [&](int r) { return kh + (start + r) * kHeadDim; });
    if constexpr (Output)
      copy_tile<kKeys, kThreads>(values(buffer), valid, [&](int r) { return vh + (start + r) * kHeadDim; });
    commit_copies();
  };
  copy_tile<kQueries, kThreads>(queries, d.tokens - first, [&](int r) { return qh + r * kHeadDim; });
  load_keys(0, 0);

  uint32_t query[kTiles][4][4];
  float out[kTiles][8][4] = {};
  // For rows g and g + 8 of each tile: the largest raw product so far, this thread's part of the sum of exp
  // and of the sum of exp times raw product, and the smallest product.
  float high[kTiles][2], sum[kTiles][2] = {}, weighted[kTiles][2] = {}, low[kTiles][2];
#pragma unroll
  for (int i = 0; i < kTiles; ++i)
    for (int r = 0; r < 2; ++r) {
      high[i][r] = -INFINITY;
      low[i][r] = INFINITY;
    }

  int buffer = 0;
  for (int64_t start = 0; start < d.tokens; start += kKeys, buffer ^= 1) {
    wait_for_copies<0>();
    __syncthreads();  // the tile is complete, and no thread reads the other buffer any more
    if (start == 0)
#pragma unroll
      for (int i = 0; i < kTiles; ++i)
#pragma unroll
        for (int step = 0; step < 4; ++step)
          left_operand(query[i][step], queries, (warp * kTiles + i) * 16, step);
    if (start + kKeys < d.tokens) load_keys(start + kKeys, buffer ^ 1);

    float s[kTiles][8][4] = {};
    products<kTiles>(s, query, keys(buffer));
    const int64_t left = d.tokens - start;
    if (left < kKeys)
#pragma unroll
      for (int n = 0; n < 8; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          if (n * 8 + 2 * t + e % 2 >= left)
#pragma unroll
            for (int i = 0; i < kTiles; ++i) s[i][n][e] = -INFINITY;

#pragma unroll
    for (int i = 0; i < kTiles; ++i)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float most = high[i][r];
#pragma unroll
        for (int n = 0; n < 8; ++n) most = fmaxf(most, fmaxf(s[i][n][2 * r], s[i][n][2 * r + 1]));
        most = max_lanes<4>(most);
        const float base = most * kScaleLog2e, keep = fast_exp2(high[i][r] * kScaleLog2e - base);
        high[i][r] = most;
        sum[i][r] *= keep;
        if constexpr (Stats) weighted[i][r] *= keep;
#pragma unroll
        for (int n = 0; n < 8; ++n) {
          if constexpr (Output) {
            out[i][n][2 * r] *= keep;
            out[i][n][2 * r + 1] *= keep;
          }
#pragma unroll
          for (int e = 2 * r; e < 2 * r + 2; ++e) {
            const float x = s[i][n][e], p = fast_exp2(x * kScaleLog2e - base);
            sum[i][r] += p;
            if constexpr (Stats)
              if (x > -INFINITY) {  // not past the last key
                weighted[i][r] += p * x;
                low[i][r] = fminf(low[i][r], x);
              }
            s[i][n][e] = p;
          }
        }
      }

    if constexpr (Output) accumulate<kTiles>(out, s, values(buffer));
  }

  float largest[2] = {}, entropy[2] = {};  // by stream
#pragma unroll
  for (int i = 0; i < kTiles; ++i)
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float total = sum_lanes<4>(sum[i][r]), inverse = 1.0f / total;
      const int64_t row = first + (warp * kTiles + i) * 16 + r * 8 + g;
      const float row_lse = high[i][r] * kScale + log_of(total);
      if constexpr (Stats) {
        const float product = sum_lanes<4>(weighted[i][r]), least = -max_lanes<4>(-low[i][r]);
        if (row < d.tokens && t == 0)
          add_row(largest, entropy, row >= d.split, kScale * fmaxf(high[i][r], -least),
                  row_lse - kScale * product * inverse);
      }
      if (!Output || row >= d.tokens) continue;
      if (t == 0) lse[bh * d.tokens + row] = row_lse;
      bf16* to = outputs.at(d, sample, head, row);
#pragma unroll
      for (int n = 0; n < 8; ++n)
        *reinterpret_cast<uint32_t*>(to + n * 8 + 2 * t) =
            pack2(out[i][n][2 * r] * inverse, out[i][n][2 * r + 1] * inverse);
    }
  if constexpr (Stats) {
    store_part<kWarps>(parts + blockIdx.x, memory, largest, entropy);
  }
}

/// Enqueues the kernel, which computes the outputs if there are any, and the statistics.
template <bool Output>
void run(StreamRows<bf16> out, float* lse, AttentionStats* stats, const bf16* q, const bf16* k, const bf16* v,
         const AttentionDims& d) {
  const unsigned of_head = blocks(d.tokens - d.first_query, kQueries);
  const unsigned count = of_head * static_cast<unsigned>(d.to - d.from);
  if (stats) {
    StatsPart* parts = workspace<StatsPart>(count);
    launch(forward<Output, true>, count, kThreads, kShared, out, lse, parts, q, k, v, d, of_head);
    sum_stats(stats, parts, count, d);
  } else if constexpr (Output) {
    launch(forward<true, false>, count, kThreads, kShared, out, lse, nullptr, q, k, v, d, of_head);
  }
}

}  // namespace

void own_attention(StreamRows<bf16> out, float* lse, AttentionStats* stats, const bf16* q, const bf16* k,
                   const bf16* v, const AttentionDims& d) {
  if (has_warpgroups()) return warpgroup_attention(out, lse, stats, q, k, v, d);
  run<true>(out, lse, stats, q, k, v, d);
}

void attention_half(StreamRows<bf16> out, float* lse, AttentionStats* stats, const bf16* q, const bf16* k,
                    const bf16* v, const AttentionDims& d, void*) {
  // The result must not depend on whether there are statistics.
  if (attention_by_library(out, lse, q, k, v, d))
    run<false>({}, nullptr, stats, q, k, v, d);
  else
    own_attention(out, lse, stats, q, k, v, d);
}

}  // namespace orch::kernels::cuda
