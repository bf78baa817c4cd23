// Joint attention in fp32, for the reference mode: one warp per query (backward: or per key), whose lanes
// process every 32nd row of the other side. Also what both precisions share.
#include "attention_parts.h"

namespace orch::kernels::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / kWarp;
constexpr int kHead = static_cast<int>(kHeadDim);

GPU_INLINE float dot_row(const float* a, const float* b) {
  float sum[4] = {};
#pragma unroll
  for (int c = 0; c < kHead; c += 4) {
    const float4 x = *reinterpret_cast<const float4*>(a + c), y = *reinterpret_cast<const float4*>(b + c);
    sum[0] += x.x * y.x;
    sum[1] += x.y * y.y;
    sum[2] += x.z * y.z;
    sum[3] += x.w * y.w;
  }
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}
GPU_INLINE void add_row(float (&to)[kHead], float factor, const float* row) {
#pragma unroll
  for (int c = 0; c < kHead; c += 4) {
    const float4 x = *reinterpret_cast<const float4*>(row + c);
    to[c] += factor * x.x;
    to[c + 1] += factor * x.y;
    to[c + 2] += factor * x.z;
    to[c + 3] += factor * x.w;
  }
}
/// Sums over the lanes and multiplies by factor; lane i writes channels i and i + 32.
GPU_INLINE void store_sum(float* to, const float (&x)[kHead], float factor) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int c = 0; c < kHead; ++c) {
    const float sum = sum_lanes(x[c]) * factor;
    if (c % kWarp == lane) to[c] = sum;
  }
}

__global__ void __launch_bounds__(kThreads)
    forward(StreamRows<float> outputs, float* lse, StatsPart* parts, const float* q, const float* k,
            const float* v, AttentionDims d, int64_t rows) {
  const int lane = threadIdx.x % kWarp;
  const int64_t queries = d.tokens - d.first_query,
                at = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  if (at >= rows) return;
  const int64_t bh = d.from + at / queries, row = d.first_query + at % queries;
  const float *mine = q + (bh * d.tokens + row) * kHead, *kh = k + bh * d.tokens * kHead,
              *vh = v + bh * d.tokens * kHead;
  float high = -INFINITY, low = INFINITY, sum = 0, weighted = 0, out[kHead] = {};
  for (int64_t j = lane; j < d.tokens; j += kWarp) {
    const float s = kScale * dot_row(mine, kh + j * kHead);
    low = fminf(low, s);
    if (s > high) {
      const float keep = exp_of(high - s);
      sum *= keep;
      weighted *= keep;
#pragma unroll
      for (int c = 0; c < kHead; ++c) out[c] *= keep;
      high = s;
    }
    const float p = exp_of(s - high);
    sum += p;
    weighted += p * s;
    add_row(out, p, vh + j * kHead);
  }
  const float most = max_lanes(high), keep = high > -INFINITY ? exp_of(high - most) : 0.0f;
#pragma unroll
  for (int c = 0; c < kHead; ++c) out[c] *= keep;
  const float total = sum_lanes(sum * keep), row_lse = most + log_of(total);
  store_sum(outputs.at(d, bh / d.heads, bh % d.heads, row), out, 1.0f / total);
  const float product = sum_lanes(weighted * keep), least = -max_lanes(-low);
  if (lane > 0) return;
  lse[bh * d.tokens + row] = row_lse;
  if (!parts) return;
  StatsPart part{};
  const int stream = row >= d.split;
  part.entropy[stream] = static_cast<double>(row_lse - product / total);
  part.largest[stream] = fmaxf(most, -least);
  parts[at] = part;
}

__global__ void __launch_bounds__(kThreads)
    of_queries(float* dq, StreamRows<const float> gradients, const float* lse, const float* delta,
               const float* q, const float* k, const float* v, AttentionDims d, int64_t rows) {
  const int64_t queries = d.tokens - d.first_query,
                at = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  if (at >= rows) return;
  const int64_t bh = d.from + at / queries, row = d.first_query + at % queries, here = bh * d.tokens + row;
  const float *mine = q + here * kHead, *dout = gradients.at(d, bh / d.heads, bh % d.heads, row);
  float sum[kHead] = {};
  for (int64_t j = threadIdx.x % kWarp; j < d.tokens; j += kWarp) {
    const float* key = k + (bh * d.tokens + j) * kHead;
    const float p = exp_of(kScale * dot_row(mine, key) - lse[here]);
    add_row(sum, p * (dot_row(dout, v + (bh * d.tokens + j) * kHead) - delta[here]), key);
  }
  store_sum(dq + here * kHead, sum, kScale);
}

__global__ void __launch_bounds__(kThreads)
    of_keys(float* dk, float* dv, StreamRows<const float> gradients, const float* lse, const float* delta,
            const float* q, const float* k, const float* v, AttentionDims d, int64_t rows) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  if (at >= rows) return;
  const int64_t here = d.from * d.tokens + at, bh = here / d.tokens;
  const float *key = k + here * kHead, *value = v + here * kHead;
  float sum_k[kHead] = {}, sum_v[kHead] = {};
  for (int64_t i = d.first_query + threadIdx.x % kWarp; i < d.tokens; i += kWarp) {
    const float *query = q + (bh * d.tokens + i) * kHead,
                *dout = gradients.at(d, bh / d.heads, bh % d.heads, i);
    const float p = exp_of(kScale * dot_row(key, query) - lse[bh * d.tokens + i]);
    add_row(sum_v, p, dout);
    add_row(sum_k, p * (dot_row(value, dout) - delta[bh * d.tokens + i]), query);
  }
  store_sum(dk + here * kHead, sum_k, kScale);
  store_sum(dv + here * kHead, sum_v, 1.0f);
}

/// Eight lanes per row.
template <class T>
__global__ void __launch_bounds__(kThreads)
    products(float* delta, StreamRows<const T> dout, StreamRows<const T> out, AttentionDims d, int64_t rows) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * (kThreads / 8) + threadIdx.x / 8,
                queries = d.tokens - d.first_query;
  const bool inside = at < rows;  // all lanes take part in the sum
  const int64_t bh = d.from + (inside ? at / queries : 0),
                row = inside ? d.first_query + at % queries : d.first_query;
  const int channel = threadIdx.x % 8 * 8;
  float a[8], b[8], sum = 0;
  load8(a, dout.at(d, bh / d.heads, bh % d.heads, row) + channel);
  load8(b, out.at(d, bh / d.heads, bh % d.heads, row) + channel);
#pragma unroll
  for (int j = 0; j < 8; ++j) sum += a[j] * b[j];
  sum = sum_lanes<8>(sum);
  if (inside && channel == 0) delta[bh * d.tokens + row] = sum;
}

constexpr int kSumThreads = 256;
__global__ void __launch_bounds__(kSumThreads)
    add_parts(AttentionStats* stats, const StatsPart* parts, int64_t count, int64_t rows0, int64_t rows1) {
  GPU_SHARED(memory);
  StatsPart* const all = reinterpret_cast<StatsPart*>(memory);
  StatsPart mine{};
  const auto take = [&](const StatsPart& p) {
    for (int stream = 0; stream < 2; ++stream) {
      mine.entropy[stream] += p.entropy[stream];
      mine.largest[stream] = larger(mine.largest[stream], p.largest[stream]);
    }
  };
  for (int64_t i = threadIdx.x; i < count; i += kSumThreads) take(parts[i]);
  all[threadIdx.x] = mine;
  __syncthreads();
  if (threadIdx.x > 0) return;
  for (int i = 1; i < kSumThreads; ++i) take(all[i]);
  *stats = {{{mine.largest[0], mine.entropy[0], rows0}, {mine.largest[1], mine.entropy[1], rows1}}};
}

int64_t computed_rows(const AttentionDims& d) { return (d.to - d.from) * (d.tokens - d.first_query); }

void attention(StreamRows<float> out, float* lse, AttentionStats* stats, const float* q, const float* k,
               const float* v, const AttentionDims& d, void*) {
  const int64_t rows = computed_rows(d);
  StatsPart* parts = stats ? workspace<StatsPart>(rows) : nullptr;
  launch(forward, blocks(rows, kWarps), kThreads, 0, out, lse, parts, q, k, v, d, rows);
  if (stats) sum_stats(stats, parts, rows, d);
}

void attention_backward(float* dq, float* dk, float* dv, StreamRows<const float> dout,
                        StreamRows<const float> out, const float* lse, const float* q, const float* k,
                        const float* v, const AttentionDims& d, void*) {
  const int64_t all = (d.to - d.from) * d.tokens, rows = computed_rows(d);
  float* delta = workspace<float>(d.samples * d.heads * d.tokens);
  row_products(delta, dout, out, d);
  launch(of_queries, blocks(rows, kWarps), kThreads, 0, dq, dout, lse, delta, q, k, v, d, rows);
  launch(of_keys, blocks(all, kWarps), kThreads, 0, dk, dv, dout, lse, delta, q, k, v, d, all);
}

size_t no_scratch(const AttentionDims&) { return 0; }

}  // namespace

void sum_stats(AttentionStats* stats, const StatsPart* parts, int64_t count, const AttentionDims& d) {
  const int64_t pairs = d.to - d.from,
                first = d.first_query < d.split ? pairs * (d.split - d.first_query) : 0;
  launch(add_parts, 1, kSumThreads, sizeof(StatsPart) * kSumThreads, stats, parts, count, first,
         computed_rows(d) - first);
}

template <class T>
void row_products(float* delta, StreamRows<const T> dout, StreamRows<const T> out, const AttentionDims& d) {
  const int64_t rows = computed_rows(d);
  launch(products<T>, blocks(rows, kThreads / 8), kThreads, 0, delta, dout, out, d, rows);
}
template void row_products(float*, StreamRows<const bf16>, StreamRows<const bf16>, const AttentionDims&);

void fill_attention(Table& t) {
  t.f32.attention_scratch_bytes = no_scratch;
  t.f32.attention = attention;
  t.f32.attention_backward = attention_backward;
  t.b16.attention_scratch_bytes = no_scratch;
  t.b16.attention = attention_half;
  t.b16.attention_backward = attention_half_backward;
}

}  // namespace orch::kernels::cuda
