// Joint attention for heads of 64 channels, backward.
//
// For each sample and head, blocks of query rows are processed against panels of keys: the probabilities are
// recomputed from the log-sum-exp, in the L1 cache, and the gradients of k and v accumulate in fp32, block
// after block. The gradient of q is computed once per block, from all its keys.
#include "attention_parts.h"

namespace orch::kernels::ORCH_ISA {
namespace {

template <class Unit>
struct Buffers {
  Unit *kt, *vt, *k, *q, *q_summed, *dout, *dout_summed, *p_pairs, *ds, *ds_pairs;
  float *logits, *dp, *dq, *dk, *dv;
  Buffers(Scratch& s, int64_t tokens, int64_t width) {
    const Sizes z = sizes_of(tokens);
    kt = s.take<Unit>(z.panels * width);
    vt = s.take<Unit>(z.panels * width);
    k = s.take<Unit>(z.columns * kHeadDim);
    q = s.take<Unit>(kRows * kHeadDim);
    q_summed = s.take<Unit>(kRows * kHeadDim);
    dout = s.take<Unit>(kRows * kHeadDim);
    dout_summed = s.take<Unit>(kRows * kHeadDim);
    p_pairs = s.take<Unit>(kRows * kPanel);
    ds = s.take<Unit>(kRows * z.columns);
    ds_pairs = s.take<Unit>(kRows * kPanel);
    logits = s.take<float>(kRows * kPanel);
    dp = s.take<float>(kRows * kPanel);
    dq = s.take<float>(kRows * kHeadDim);
    dk = s.take<float>(tokens * kHeadDim);
    dv = s.take<float>(tokens * kHeadDim);
  }
};

template <class T>
size_t scratch_bytes(int64_t tokens) {
  using Op = typename OperandsOf<T>::Op;
  Scratch s{nullptr};
  Buffers<typename Op::Unit>(s, tokens, Pack<T, Op>::kWidth);
  return s.used;
}

/// Probabilities and logit gradients of one row from its products: p = exp(scale * x - lse), ds = p * (dp -
/// delta) * scale.
struct RowBackward {
  vf base, delta;
};
ORCH_INLINE RowBackward row_backward(float lse, float delta) {
  return {splat(lse * 1.44269504f), splat(delta)};
}
template <class T>
ORCH_INLINE void apply(const RowBackward& row, vf x, vf dp, vf& p, vf& ds) {
  p = exp2_of < is_bf16<T> ? 5 : 6 > (x * splat(kScaleLog2e) - row.base);
  ds = p * (dp - row.delta) * splat(kScale);
}

/// One row of a panel: replaces x by p, and computes ds from y (dp). Columns past the last key become zero.
template <class T>
ORCH_INLINE void softmax_backward_row(float* x, float* ds_row, const float* y, const RowBackward& row,
                                      int64_t tokens) {
  const int64_t last = round_up(tokens, kLanes) - kLanes;
  const vi inside = first_lanes(tokens - last);
  vf p, ds;
  for (int64_t j = 0; j < last; j += kLanes) {
    apply<T>(row, load(x + j), load(y + j), p, ds);
    store(x + j, p);
    store(ds_row + j, ds);
  }
  apply<T>(row, load(x + last), load(y + last), p, ds);
  store(x + last, select(inside, p, vf{}));
  store(ds_row + last, select(inside, ds, vf{}));
}

#if defined(ORCH_PAIRS)
/// Writes bf16(first) and bf16(second) as pairs, and also each to its own row if the row is not null.
ORCH_INLINE void store_pairs(uint32_t* pairs, bf16* first_row, bf16* second_row, vf first, vf second) {
#if defined(__AVX512BF16__)
  alignas(64) static constexpr uint16_t kInterleave[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                           21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                           11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
  _mm512_storeu_si512(pairs, _mm512_permutexvar_epi16(_mm512_load_si512(kInterleave), both));
  if (first_row == nullptr) return;
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(first_row), _mm512_castsi512_si256(both));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(second_row), _mm512_extracti64x4_epi64(both, 1));
#else
  alignas(64) bf16 rows[2][kLanes];
  store(rows[0], first);
  store(rows[1], second);
  store_units(pairs, pair_rows(rows[0], rows[1]));
  if (first_row == nullptr) return;
  std::memcpy(first_row, rows[0], sizeof rows[0]);
  std::memcpy(second_row, rows[1], sizeof rows[1]);
#endif
}

/// Two adjacent rows of a panel: p and ds with the rows paired in units, and ds row by row. Without a second
/// row (both = false) its half of the pairs is zero.
ORCH_INLINE void softmax_backward_pair(uint32_t* p_pairs, uint32_t* ds_pairs, bf16* ds, int64_t ds_stride,
                                       const float* x, const float* y, const RowBackward& first,
                                       const RowBackward& second, bool both, int64_t tokens) {
  const vi second_inside = both ? ~vi{} : vi{};
  const float *x1 = both ? x + kPanel : x, *y1 = both ? y + kPanel : y;
  const auto step = [&](int64_t j, vi inside) __attribute__((always_inline)) {
    vf p0, s0, p1, s1;
    apply<bf16>(first, load(x + j), load(y + j), p0, s0);
    apply<bf16>(second, load(x1 + j), load(y1 + j), p1, s1);
    const vi inside1 = inside & second_inside;
    p0 = select(inside, p0, vf{});
    s0 = select(inside, s0, vf{});
    p1 = select(inside1, p1, vf{});
    s1 = select(inside1, s1, vf{});
    store_pairs(p_pairs + j, nullptr, nullptr, p0, p1);
    store_pairs(ds_pairs + j, ds + j, ds + ds_stride + j, s0, s1);
  };
  const int64_t last = round_up(tokens, kLanes) - kLanes;
  for (int64_t j = 0; j < last; j += kLanes) step(j, ~vi{});
  step(last, first_lanes(tokens - last));
}
#endif

template <class T>
void attention_backward(T* dq, T* dk, T* dv, StreamRows<const T> dout, StreamRows<const T> out,
                        const float* lse, const T* q, const T* k, const T* v, const AttentionDims& d,
                        void* scratch) {
  using Op = typename OperandsOf<T>::Op;
  using P = Pack<T, Op>;
  using Unit = typename Op::Unit;
  Scratch space{static_cast<char*>(scratch)};
  const Buffers<Unit> w(space, d.tokens, P::kWidth);
  const Sizes z = sizes_of(d.tokens);
  const int64_t summed = (d.tokens + Op::kPerUnit - 1) / Op::kPerUnit;  // units along the keys
  for (int64_t bh = d.from; bh < d.to; ++bh) {
    const int64_t sample = bh / d.heads, head = bh % d.heads, at = bh * d.tokens * kHeadDim;
    P::transposed(w.kt, k + at, d.tokens);
    fetch_head(q, d, bh + 1);
    fetch_head(k, d, bh + 1);
    fetch_head(v, d, bh + 1);
    P::transposed(w.vt, v + at, d.tokens);
    const Unit* kp = P::summed_rows(w.k, k + at, kHeadDim, d.tokens);
    for (int64_t start = d.first_query; start < d.tokens; start += kRows) {
      const int64_t rows = min_of(kRows, d.tokens - start), units = (rows + Op::kPerUnit - 1) / Op::kPerUnit;
      const T* qh = q + at + start * kHeadDim;
      const float* row_lse = lse + bh * d.tokens + start;

      // The block's output gradients, gathered from their stream, and delta = rowsum(dout * out).
      alignas(64) T gathered[kRows * kHeadDim];
      float delta[kRows];
      for (int64_t r = 0; r < rows; ++r) {
        const T* g = dout.at(d, sample, head, start + r);
        const T* o = out.at(d, sample, head, start + r);
        std::memcpy(gathered + r * kHeadDim, g, kHeadDim * sizeof(T));
        vf sum = {};
        for (int64_t i = 0; i < kHeadDim; i += kLanes) sum += load(g + i) * load(o + i);
        delta[r] = sum_lanes(sum);
      }
      const Unit* qp = P::rows(w.q, qh, kHeadDim, rows);
      const Unit* gp = P::rows(w.dout, gathered, kHeadDim, rows);
      const Unit* qs = P::summed_rows(w.q_summed, qh, kHeadDim, rows);
      const Unit* gs = P::summed_rows(w.dout_summed, gathered, kHeadDim, rows);

      const int64_t ds_stride = z.columns / Op::kPerUnit;
      for (int64_t key = 0; key < d.tokens; key += kPanel) {
        const int64_t keys = min_of(kPanel, d.tokens - key), vectors = (keys + kLanes - 1) / kLanes;
        gemm<Op, false>(w.logits, kPanel, qp, P::kWidth, 1, w.kt + key * P::kWidth, kPanel, 0, rows, vectors,
                        P::kWidth);
        gemm<Op, false>(w.dp, kPanel, gp, P::kWidth, 1, w.vt + key * P::kWidth, kPanel, 0, rows, vectors,
                        P::kWidth);
        const Unit *p_pairs = w.p_pairs, *ds_pairs = w.ds_pairs;
        int64_t pairs_stride = kPanel;
        if constexpr (Op::kPerUnit == 1) {
          for (int64_t r = 0; r < rows; ++r) {
            softmax_backward_row<T>(w.logits + r * kPanel, w.ds + r * ds_stride + key, w.dp + r * kPanel,
                                    row_backward(row_lse[r], delta[r]), keys);
          }
          p_pairs = w.logits;
          ds_pairs = w.ds + key;
          pairs_stride = ds_stride;
        } else {
#if defined(ORCH_PAIRS)
          for (int64_t r = 0; r < rows; r += 2) {
            const int64_t pair = r / 2 * kPanel, next = min_of(r + 1, rows - 1);
            softmax_backward_pair(
                w.p_pairs + pair, w.ds_pairs + pair, reinterpret_cast<bf16*>(w.ds) + r * z.columns + key,
                z.columns, w.logits + r * kPanel, w.dp + r * kPanel, row_backward(row_lse[r], delta[r]),
                row_backward(row_lse[next], delta[next]), next > r, keys);
          }
#endif
        }
        const auto gather = [&](float* sum, const Unit* left, int64_t stride, const Unit* right) {
          sum += key * kHeadDim;
          if (start == d.first_query) {
            gemm<Op, false>(sum, kHeadDim, left, 1, stride, right, kHeadDim, kPanel, keys, kHeadVectors,
                            units);
          } else {
            gemm<Op, true>(sum, kHeadDim, left, 1, stride, right, kHeadDim, kPanel, keys, kHeadVectors,
                           units);
          }
        };
        gather(w.dv, p_pairs, kPanel, gs);
        gather(w.dk, ds_pairs, pairs_stride, qs);
      }
      gemm<Op, false>(w.dq, kHeadDim, w.ds, ds_stride, 1, kp, kHeadDim, kPanel, rows, kHeadVectors, summed);
      for (int64_t i = 0; i < rows * kHeadDim; i += kLanes)
        store(dq + at + start * kHeadDim + i, load(w.dq + i));
    }
    for (int64_t i = 0; i < d.tokens * kHeadDim; i += kLanes) {
      store(dk + at + i, load(w.dk + i));
      store(dv + at + i, load(w.dv + i));
    }
  }
}

}  // namespace

size_t backward_scratch_single(int64_t tokens) { return scratch_bytes<float>(tokens); }
size_t backward_scratch_half(int64_t tokens) { return scratch_bytes<bf16>(tokens); }

void fill_attention_backward(Table& t) {
  t.each_type([]<class T>(Typed<T>& k) { k.attention_backward = attention_backward<T>; });
}

}  // namespace orch::kernels::ORCH_ISA
