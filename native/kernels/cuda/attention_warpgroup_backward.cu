// Joint attention backward in bf16 on Hopper, with the order of work of attention_backward.cu: a block has 128
// keys (or queries), 64 per warpgroup, whose left operands and sums stay in registers, and goes through all
// queries (or keys) in tiles of 64.
#include "warpgroup.h"

namespace orch::kernels::cuda {
namespace {

/// What products with the queries of a tile need: log-sum-exp (of base 2), then delta. In shared memory, they
/// follow the ring.
constexpr int kRowFloats = 2 * kTileRows, kRowsBytes = kRowFloats * static_cast<int>(sizeof(float));
GPU_INLINE float* rows_of(unsigned char* memory, int turn) {
  return reinterpret_cast<float*>(memory + kRingBytes + turn % kStages * kRowsBytes);
}
/// The numbers of this thread's two columns in block n of eight.
GPU_INLINE float2 of_columns(const float* numbers, int n) {
  return *reinterpret_cast<const float2*>(numbers + n * 8 + 2 * (threadIdx.x % 4));
}

/// One block per tile of queries: its rows' log-sum-exp and delta = rowsum(dout * out); 0 past the last query.
__global__ void __launch_bounds__(kThreads)
    prepare_rows(float* rows, StreamRows<const bf16> gradients, StreamRows<const bf16> outputs,
                 const float* lse, AttentionDims d, unsigned tiles) {
  const int64_t head = d.from + blockIdx.x / tiles;
  const int start = static_cast<int>(d.first_query) + static_cast<int>(blockIdx.x % tiles) * kTileRows;
  const HeadRows dout = rows_of_head(gradients, d, head), out = rows_of_head(outputs, d, head);
  float* const to = rows + static_cast<int64_t>(blockIdx.x) * kRowFloats;
#pragma unroll
  for (int r = threadIdx.x / 8; r < kTileRows; r += kThreads / 8) {
    const int position = start + r, lane = threadIdx.x % 8;
    const bool inside = position < d.tokens;
    float a[8] = {}, b[8] = {}, sum = 0;
    if (inside) {
      load8(a, dout.at(position) + 8 * lane);
      load8(b, out.at(position) + 8 * lane);
    }
#pragma unroll
    for (int j = 0; j < 8; ++j) sum += a[j] * b[j];
    sum = sum_lanes<8>(sum);
    if (lane > 0) continue;
    to[r] = inside ? lse[head * d.tokens + position] * kLog2e : 0;
    to[kTileRows + r] = sum;
  }
}

__global__ void __launch_bounds__(kThreads, 1)
    of_keys(bf16* dk, bf16* dv, StreamRows<const bf16> gradients, const float* rows, const bf16* q,
            const bf16* k, const bf16* v, AttentionDims d, unsigned blocks_of_head, unsigned tiles) {
  GPU_SHARED(memory);
  const int tokens = static_cast<int>(d.tokens);
  const int64_t pair = blockIdx.x / blocks_of_head, head = d.from + pair;
  const int first = static_cast<int>(blockIdx.x % blocks_of_head) * kOwn + threadIdx.x / kWarp * 16;
  const HeadRows queries = rows_of_head(q, d, head), douts = rows_of_head(gradients, d, head);
  const float* const of_tiles = rows + pair * tiles * kRowFloats;
  const auto load = [&](int turn, auto tile) {
    const int start = static_cast<int>(d.first_query) + turn * kTileRows;
    copy_rows_to(tile(0), queries, start, tokens);
    copy_rows_to(tile(1), douts, start, tokens);
    if (threadIdx.x < kRowFloats / 4)
      copy_async(rows_of(memory, turn) + 4 * threadIdx.x, of_tiles + turn * kRowFloats + 4 * threadIdx.x, true);
  };
  const Ring ring{memory, static_cast<int>(tiles), load};
  uint32_t key[4][4], value[4][4];
  load_left(key, rows_of_head(k, d, head), first, tokens);
  load_left(value, rows_of_head(v, d, head), first, tokens);

  // Rows are keys, columns queries.
  float sum_k[8][4] = {}, sum_v[8][4] = {};
  settle(sum_k);
  settle(sum_v);
  ring.start();
  for (int turn = 0; turn < ring.turns; ++turn) {
    ring.wait(turn);
    unsigned char *const query = ring.tile(turn, 0), *const dout = ring.tile(turn, 1);
    const float* const of = rows_of(memory, turn);
    float p[8][4], ds[8][4];
    uint32_t left[4][4], left_ds[4][4];
    start_products<Right::ByChannels>(p, key, query, false);
    start_products<Right::ByChannels>(ds, value, dout, false);
    ring.load_ahead(turn);
    wait_for_products<1>();  // of p
    settle(p);
#pragma unroll
    for (int n = 0; n < 8; ++n) {
      const float2 base = of_columns(of, n);
#pragma unroll
      for (int e = 0; e < 4; ++e) p[n][e] = fast_exp2(p[n][e] * kScaleLog2e - (e % 2 ? base.y : base.x));
    }
    as_left(left, p);
    start_products<Right::ByRows>(sum_v, left, dout, true);
    wait_for_products<1>();  // of ds
    settle(ds);
#pragma unroll
    for (int n = 0; n < 8; ++n) {
      const float2 delta = of_columns(of + kTileRows, n);
#pragma unroll
      for (int e = 0; e < 4; ++e) ds[n][e] = p[n][e] * (ds[n][e] - (e % 2 ? delta.y : delta.x));
    }
    as_left(left_ds, ds);
    start_products<Right::ByRows>(sum_k, left_ds, query, true);
  }
  wait_for_products<0>();
  settle(sum_k);
  settle(sum_v);
  const int64_t at = head * d.tokens * kHeadDim;
  store_rows(dk + at, sum_k, kScale, first, tokens);
  store_rows(dv + at, sum_v, 1.0f, first, tokens);
}

__global__ void __launch_bounds__(kThreads, 1)
    of_queries(bf16* dq, StreamRows<const bf16> gradients, const float* rows, const bf16* q, const bf16* k,
               const bf16* v, AttentionDims d, unsigned blocks_of_head, unsigned tiles) {
  GPU_SHARED(memory);
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4, tokens = static_cast<int>(d.tokens),
            first_query = static_cast<int>(d.first_query);
  const int64_t pair = blockIdx.x / blocks_of_head, head = d.from + pair;
  const int number = static_cast<int>(blockIdx.x % blocks_of_head) * kOwn + threadIdx.x / kWarp * 16;
  const HeadRows keys = rows_of_head(k, d, head), values = rows_of_head(v, d, head);
  const auto load = [&](int turn, auto tile) {
    copy_rows_to(tile(0), keys, turn * kTileRows, tokens);
    copy_rows_to(tile(1), values, turn * kTileRows, tokens);
  };
  const Ring ring{memory, (tokens + kTileRows - 1) / kTileRows, load};
  uint32_t query[4][4], dout[4][4];
  load_left(query, rows_of_head(q, d, head), first_query + number, tokens);
  load_left(dout, rows_of_head(gradients, d, head), first_query + number, tokens);
  float base[2], delta[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const unsigned row = number + r * 8 + g;
    const bool inside = first_query + static_cast<int>(row) < tokens;
    const float* const of = rows + (pair * tiles + row / kTileRows) * kRowFloats + row % kTileRows;
    base[r] = inside ? of[0] : INFINITY;
    delta[r] = inside ? of[kTileRows] : 0;
  }

  float sum[8][4] = {};
  settle(sum);
  ring.start();
  for (int turn = 0; turn < ring.turns; ++turn) {
    ring.wait(turn);
    unsigned char* const key = ring.tile(turn, 0);
    float p[8][4], ds[8][4];
    uint32_t left[4][4];
    start_products<Right::ByChannels>(p, query, key, false);
    start_products<Right::ByChannels>(ds, dout, ring.tile(turn, 1), false);
    ring.load_ahead(turn);
    wait_for_products<1>();  // of p
    settle(p);
#pragma unroll
    for (int n = 0; n < 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) p[n][e] = fast_exp2(p[n][e] * kScaleLog2e - base[e / 2]);
    const int valid = tokens - turn * kTileRows;
    if (valid < kTileRows)  // the last keys are zeros, whose probability may be infinite
#pragma unroll
      for (int n = 0; n < 8; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          if (n * 8 + 2 * t + e % 2 >= valid) p[n][e] = 0;
    wait_for_products<0>();  // of ds
    settle(ds);
#pragma unroll
    for (int n = 0; n < 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) ds[n][e] = p[n][e] * (ds[n][e] - delta[e / 2]);
    as_left(left, ds);
    start_products<Right::ByRows>(sum, left, key, true);
  }
  wait_for_products<0>();
  settle(sum);
  store_rows(dq + head * d.tokens * kHeadDim, sum, kScale, first_query + number, tokens);
}

}  // namespace

void warpgroup_attention_backward(bf16* dq, bf16* dk, bf16* dv, StreamRows<const bf16> dout,
                                  StreamRows<const bf16> out, const float* lse, const bf16* q, const bf16* k,
                                  const bf16* v, const AttentionDims& d) {
  index32(2 * d.tokens * d.heads * kHeadDim);  // of rows, signed
  const unsigned heads = static_cast<unsigned>(d.to - d.from);
  const unsigned tiles = blocks(d.tokens - d.first_query, kTileRows);
  float* const rows = workspace<float>(static_cast<int64_t>(heads) * tiles * kRowFloats);
  launch(prepare_rows, heads * tiles, kThreads, 0, rows, dout, out, lse, d, tiles);
  const unsigned key_blocks = blocks(d.tokens, kOwn), query_blocks = blocks(d.tokens - d.first_query, kOwn);
  launch(of_keys, key_blocks * heads, kThreads, kRingBytes + kStages * kRowsBytes, dk, dv, dout, rows, q, k, v,
         d, key_blocks, tiles);
  launch(of_queries, query_blocks * heads, kThreads, kRingBytes, dq, dout, rows, q, k, v, d, query_blocks,
         tiles);
}

}  // namespace orch::kernels::cuda
