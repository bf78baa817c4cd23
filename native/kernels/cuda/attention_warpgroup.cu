// Joint attention forward in bf16 on Hopper: a block has 128 queries, 64 per warpgroup, and goes through all
// keys in tiles of 64 (Shah et al., "FlashAttention-3", NeurIPS 2024: the product with the values of one tile
// runs while the softmax of the next one is computed). Statistics use what the softmax computes anyway, and
// change no bit of the result.
#include "warpgroup.h"

namespace orch::kernels::cuda {
namespace {

/// The softmax of a thread's two rows (g and g + 8 of its warp's 16) so far: the largest raw product, the
/// thread's part of the sum of exp, and with statistics of the sum of exp times raw product, and the smallest
/// raw product.
template <bool Stats>
struct Softmax {
  float high[2], sum[2], weighted[2], low[2];

  GPU_INLINE Softmax() {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      high[r] = -INFINITY;
      low[r] = INFINITY;
      sum[r] = weighted[r] = 0;
    }
  }
  /// Replaces the products of a tile by exp(product - largest). keep: the factors by which earlier sums shrink.
  GPU_INLINE void add(float (&s)[8][4], float (&keep)[2]) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float most = high[r];
#pragma unroll
      for (int n = 0; n < 8; ++n) most = fmaxf(most, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
      most = max_lanes<4>(most);
      const float base = most * kScaleLog2e;
      keep[r] = fast_exp2(high[r] * kScaleLog2e - base);
      high[r] = most;
      sum[r] *= keep[r];
      if constexpr (Stats) weighted[r] *= keep[r];
#pragma unroll
      for (int n = 0; n < 8; ++n)
#pragma unroll
        for (int e = 2 * r; e < 2 * r + 2; ++e) {
          const float x = s[n][e], p = fast_exp2(x * kScaleLog2e - base);
          sum[r] += p;
          if constexpr (Stats)
            if (x > -INFINITY) {  // not past the last key
              weighted[r] += p * x;
              low[r] = fminf(low[r], x);
            }
          s[n][e] = p;
        }
    }
  }
};

template <bool Stats>
__global__ void __launch_bounds__(kThreads, Stats ? 1 : 2)  // statistics need more registers
    forward(StreamRows<bf16> outputs, float* lse, StatsPart* parts, const bf16* q, const bf16* k,
            const bf16* v, AttentionDims d, unsigned blocks_of_head) {
  GPU_SHARED(memory);
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4,
            tokens = static_cast<int>(d.tokens);
  const int64_t head = d.from + blockIdx.x / blocks_of_head;
  const int first = static_cast<int>(d.first_query) +
                    static_cast<int>(blockIdx.x % blocks_of_head) * kOwn + warp * 16;
  const HeadRows keys = rows_of_head(k, d, head), values = rows_of_head(v, d, head);
  const auto load = [&](int turn, auto tile) {
    copy_rows_to(tile(0), keys, turn * kTileRows, tokens);
    copy_rows_to(tile(1), values, turn * kTileRows, tokens);
  };
  const Ring ring{memory, (tokens + kTileRows - 1) / kTileRows, load};
  uint32_t query[4][4], p[4][4];
  load_left(query, rows_of_head(q, d, head), first, tokens);

  Softmax<Stats> softmax;
  float out[8][4] = {}, s[8][4], keep[2];
  const auto hide_past_last = [&](int turn) {
    const int valid = tokens - turn * kTileRows;
    if (valid >= kTileRows) return;
#pragma unroll
    for (int n = 0; n < 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (n * 8 + 2 * t + e % 2 >= valid) s[n][e] = -INFINITY;
  };
  settle(out);
  ring.start();
  ring.wait(0);
  start_products<Right::ByChannels>(s, query, ring.tile(0, 0), false);
  ring.load_ahead(0);
  wait_for_products<0>();
  settle(s);
  hide_past_last(0);
  softmax.add(s, keep);
  as_left(p, s);
  for (int turn = 1; turn < ring.turns; ++turn) {
    ring.wait(turn);
    start_products<Right::ByChannels>(s, query, ring.tile(turn, 0), false);
    start_products<Right::ByRows>(out, p, ring.tile(turn - 1, 1), true);
    ring.load_ahead(turn);
    wait_for_products<1>();  // of s
    settle(s);
    hide_past_last(turn);
    softmax.add(s, keep);
    settle(s);
    wait_for_products<0>();
    settle(out);
#pragma unroll
    for (int n = 0; n < 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) out[n][e] *= keep[e / 2];
    as_left(p, s);
  }
  start_products<Right::ByRows>(out, p, ring.tile(ring.turns - 1, 1), true);
  wait_for_products<0>();
  settle(out);

  float largest[2] = {}, entropy[2] = {};  // by stream
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float total = sum_lanes<4>(softmax.sum[r]), inverse = 1.0f / total;
    const int64_t row = first + r * 8 + g;
    const float row_lse = softmax.high[r] * kScale + log_of(total);
    if constexpr (Stats) {
      const float product = sum_lanes<4>(softmax.weighted[r]), least = -max_lanes<4>(-softmax.low[r]);
      if (row < d.tokens && t == 0)
        add_row(largest, entropy, row >= d.split, kScale * fmaxf(softmax.high[r], -least),
                row_lse - kScale * product * inverse);
    }
    if (row >= d.tokens) continue;
    if (t == 0) lse[head * d.tokens + row] = row_lse;
    bf16* const to = outputs.at(d, head / d.heads, head % d.heads, row);
#pragma unroll
    for (int n = 0; n < 8; ++n)
      *reinterpret_cast<uint32_t*>(to + n * 8 + 2 * t) =
          pack2(out[n][2 * r] * inverse, out[n][2 * r + 1] * inverse);
  }
  if constexpr (Stats) store_part<kThreads / kWarp>(parts + blockIdx.x, memory, largest, entropy);
}

}  // namespace

void warpgroup_attention(StreamRows<bf16> out, float* lse, AttentionStats* stats, const bf16* q,
                         const bf16* k, const bf16* v, const AttentionDims& d) {
  index32(2 * d.tokens * d.heads * kHeadDim);  // of rows, signed
  const unsigned of_head = blocks(d.tokens - d.first_query, kOwn);
  const unsigned count = of_head * static_cast<unsigned>(d.to - d.from);
  StatsPart* const parts = stats ? workspace<StatsPart>(count) : nullptr;
  launch(stats ? forward<true> : forward<false>, count, kThreads, kRingBytes, out, lse, parts, q, k, v, d, of_head);
  if (stats) sum_stats(stats, parts, count, d);
}

}  // namespace orch::kernels::cuda
