// Joint attention for heads of 64 channels, forward (softmax with log-sum-exp as in Dao et al.,
// "FlashAttention", NeurIPS 2022).
//
// For each sample and head, k and v are packed once. Then each block of query rows is processed against all
// keys: logits in fp32 (a block of rows fits the L2 cache), softmax in registers, and the product with v.
#include "attention_parts.h"

namespace orch::kernels::ORCH_ISA {
namespace {

constexpr int64_t kPaddedRows = (kRows + 15) / 16 * 16;
constexpr float kNever = -1e30f;  ///< the logit of columns past the last key

template <class Unit>
struct Buffers {
  Unit *k, *v, *q, *p;
  float *logits, *out;
  Buffers(Scratch& s, int64_t tokens, int64_t width) {
    const Sizes z = sizes_of(tokens);
    k = s.take<Unit>(z.panels * width);
    v = s.take<Unit>(z.columns * kHeadDim);
    q = s.take<Unit>(kRows * kHeadDim);
    p = s.take<Unit>(kRows * z.columns);
    logits = s.take<float>(kRows * z.columns);
    out = s.take<float>(kRows * kHeadDim);
  }
};

template <class T>
size_t attention_scratch_bytes(const AttentionDims& d) {
  using Op = typename OperandsOf<T>::Op;
  Scratch s{nullptr};
  Buffers<typename Op::Unit>(s, d.tokens, Pack<T, Op>::kWidth);
  const size_t backward = is_bf16<T> ? backward_scratch_half(d.tokens) : backward_scratch_single(d.tokens);
  return s.used > backward ? s.used : backward;
}

/// Results of a row's softmax: the largest and smallest raw product, the sum of exp(scale * (x - maximum)),
/// and that sum weighted by x.
struct RowSums {
  alignas(64) float maximum[kPaddedRows], sum[kPaddedRows], minimum[kPaddedRows], weighted[kPaddedRows];
};

/// Replaces row r of raw dot products by unnormalised probabilities exp(scale * (x - maximum)).
template <class T, class Op, bool Stats>
ORCH_INLINE void softmax_row(typename Op::Unit* p, const float* x, int64_t tokens, const Sizes& z,
                             RowSums& sums, int64_t r) {
  const int64_t last = z.columns - kLanes;
  const vi inside = first_lanes(tokens - last);
  const vf x_last = load(x + last);
  vf high = select(inside, x_last, splat(kNever)), low = select(inside, x_last, splat(-kNever));
  for (int64_t j = 0; j < last; j += kLanes) {
    const vf s = load(x + j);
    high = max_of(s, high);
    if constexpr (Stats) low = min_of(s, low);
  }
  high = spread_max(high);
  const vf c = splat(kScaleLog2e), base = high * c;
  vf sum = {}, product = {};
  const auto step = [&](int64_t j, vf s) __attribute__((always_inline)) {
    const vf e = exp2_of < is_bf16<T> ? 5 : 6 > (s * c - base);
    sum += e;
    if constexpr (Stats) product += e * s;
    if constexpr (Op::kPerUnit == 1) {
      store(p + j, e);
    } else {
      store(reinterpret_cast<bf16*>(p) + j, e);
    }
  };
  for (int64_t j = 0; j < last; j += kLanes) step(j, load(x + j));
  step(last, select(inside, x_last, splat(kNever)));
  sums.maximum[r] = high[0];
  sums.sum[r] = sum_lanes(sum);
  if constexpr (Stats) {
    sums.minimum[r] = -spread_max(-low)[0];
    sums.weighted[r] = sum_lanes(product);
  }
}

template <class T, bool Stats>
void forward(StreamRows<T> out, float* lse, AttentionStats* stats, const T* q, const T* k, const T* v,
             const AttentionDims& d, void* scratch) {
  using Op = typename OperandsOf<T>::Op;
  using P = Pack<T, Op>;
  using Unit = typename Op::Unit;
  Scratch space{static_cast<char*>(scratch)};
  const Buffers<Unit> w(space, d.tokens, P::kWidth);
  const Sizes z = sizes_of(d.tokens);
  const int64_t summed = (d.tokens + Op::kPerUnit - 1) / Op::kPerUnit;  // units along the keys
  const int64_t p_stride = z.columns / Op::kPerUnit;
  RowSums sums = {};
  StreamStats streams[2] = {};
  for (int64_t bh = d.from; bh < d.to; ++bh) {
    const int64_t sample = bh / d.heads, head = bh % d.heads, at = bh * d.tokens * kHeadDim;
    P::transposed(w.k, k + at, d.tokens);
    const Unit* vp = P::summed_rows(w.v, v + at, kHeadDim, d.tokens);
    for (int64_t start = d.first_query; start < d.tokens; start += kRows) {
      const int64_t rows = min_of(kRows, d.tokens - start);
      const Unit* qp = P::rows(w.q, q + at + start * kHeadDim, kHeadDim, rows);
      gemm<Op, false>(w.logits, z.columns, qp, P::kWidth, 1, w.k, kPanel, kPanel * P::kWidth, rows, z.vectors,
                      P::kWidth);
      for (int64_t r = 0; r < rows; ++r) {
        softmax_row<T, Op, Stats>(w.p + r * p_stride, w.logits + r * z.columns, d.tokens, z, sums, r);
      }
      alignas(64) float inverse[kPaddedRows], row_lse[kPaddedRows];
      for (int64_t r = 0; r < rows; r += kLanes) {
        const vf s = load(sums.sum + r);
        store(inverse + r, splat(1.0f) / s);
        store(row_lse + r, load(sums.maximum + r) * splat(kScale) + select(s == s, log_of(s), s));
      }
      std::memcpy(lse + bh * d.tokens + start, row_lse, static_cast<size_t>(rows) * 4);
      if constexpr (Stats) {
        for (int64_t r = 0; r < rows; ++r) {
          const float high = sums.maximum[r], low = -sums.minimum[r],
                      size = kScale * (high > low ? high : low);
          StreamStats& of = streams[start + r >= d.split];
          of.max_abs_logit = size > of.max_abs_logit || size != size ? size : of.max_abs_logit;
          of.entropy_sum +=
              static_cast<double>(row_lse[r]) - kScale * static_cast<double>(sums.weighted[r]) * inverse[r];
          ++of.rows;
        }
      }
      gemm<Op, false>(w.out, kHeadDim, w.p, p_stride, 1, vp, kHeadDim, kPanel, rows, kHeadVectors, summed);
      for (int64_t r = 0; r < rows; ++r) {
        T* to = out.at(d, sample, head, start + r);
        const vf factor = splat(inverse[r]);
        for (int64_t i = 0; i < kHeadDim; i += kLanes) store(to + i, load(w.out + r * kHeadDim + i) * factor);
      }
    }
  }
  if constexpr (Stats) {
    stats->streams[0] = streams[0];
    stats->streams[1] = streams[1];
  }
}

template <class T>
void attention(StreamRows<T> out, float* lse, AttentionStats* stats, const T* q, const T* k, const T* v,
               const AttentionDims& d, void* scratch) {
  if (stats) {
    forward<T, true>(out, lse, stats, q, k, v, d, scratch);
  } else {
    forward<T, false>(out, lse, nullptr, q, k, v, d, scratch);
  }
}

}  // namespace

void fill_attention(Table& t) {
  t.each_type([]<class T>(Typed<T>& k) {
    k.attention_scratch_bytes = attention_scratch_bytes<T>;
    k.attention = attention<T>;
  });
}

}  // namespace orch::kernels::ORCH_ISA
