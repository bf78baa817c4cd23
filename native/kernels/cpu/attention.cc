// Joint attention, forward and backward (the log-sum-exp form of Dao et al., "FlashAttention", NeurIPS 2022),
// for heads of 64 channels.
//
// For each sample and head, k and v are packed once; then blocks of query rows are taken against all of them:
// logits in fp32 (a block of rows fits the second-level cache), softmax in registers, and the product with v.
// The backward pass recomputes the probabilities from the log-sum-exp and adds the gradients of k and v in
// fp32, block after block.
#include <cmath>

#include "families.h"
#include "gemm.h"

namespace orch::kernels::ORCH_ISA {
namespace {

constexpr float kScale = 0.125f;  // 1 / sqrt(64)
constexpr float kLog2e = 1.44269504f, kLn2 = 0.69314718f;
constexpr int64_t kRows = 24;  // query rows of a block; even
constexpr float kNever = -1e30f;  ///< the logit of places past the last key
constexpr int64_t kHeadVectors = kHeadDim / kLanes;

/// bf16 operands go in pairs where the processor multiplies them, and as fp32 elsewhere.
template <class T>
struct OperandsOf {
  using Op = SingleOp;
};
#if defined(__AVX512BF16__)
template <>
struct OperandsOf<bf16> {
  using Op = PairOp;
};
#endif

/// Packing of operands into units. Sizes are padded with zeros to whole units and panels.
template <class T, class Op>
struct Pack;

template <class T>
struct Pack<T, SingleOp> {
  using Unit = float;
  static constexpr int64_t kWidth = kHeadDim;  ///< units of a row of 64 channels

  /// [rows, 64] as it lies, as A operand with the channels summed. Returns where the units are.
  ORCH_INLINE const float* rows(float* to, const T* x, int64_t ldx, int64_t rows) {
    if constexpr (!is_bf16<T>) {
      if (ldx == kHeadDim) return x;
    }
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = 0; i < kHeadDim; i += kLanes) store(to + r * kHeadDim + i, load(x + r * ldx + i));
    }
    return to;
  }
  /// [rows, 64] as B operand with the rows summed.
  ORCH_INLINE const float* summed_rows(float* to, const T* x, int64_t ldx, int64_t n) {
    return rows(to, x, ldx, n);
  }
  /// [n, 64] transposed into panels, as B operand with the channels summed.
  ORCH_INLINE void transposed(float* to, const T* x, int64_t n) {
    for (int64_t start = 0; start < n; start += kPanel, to += kPanel * kWidth) {
      const int64_t count = min_of(kPanel, n - start);
      if (count < kPanel) std::memset(to, 0, sizeof(float) * kPanel * kWidth);
      for (int64_t j = 0; j < count; ++j) {
        for (int64_t i = 0; i < kHeadDim; ++i) to[i * kPanel + j] = widen(x[(start + j) * kHeadDim + i]);
      }
    }
  }
};

#if defined(__AVX512BF16__)
template <>
struct Pack<bf16, PairOp> {
  using Unit = uint32_t;
  static constexpr int64_t kWidth = kHeadDim / 2;

  ORCH_INLINE const uint32_t* rows(uint32_t* to, const bf16* x, int64_t ldx, int64_t rows) {
    if (ldx == kHeadDim) return reinterpret_cast<const uint32_t*>(x);
    for (int64_t r = 0; r < rows; ++r) std::memcpy(to + r * kWidth, x + r * ldx, 2 * kHeadDim);
    return to;
  }
  ORCH_INLINE const uint32_t* summed_rows(uint32_t* to, const bf16* x, int64_t ldx, int64_t n) {
    for (int64_t r = 0; r < n; r += 2) {
      const bf16* a = x + r * ldx;
      for (int64_t i = 0; i < kHeadDim; i += kLanes) {
        const vu low = bits_of(load(a + i)) >> 16;
        const vu high = r + 1 < n ? bits_of(load(a + ldx + i)) : vu{};
        store(reinterpret_cast<float*>(to + r / 2 * kHeadDim + i), (vf)(low | high));
      }
    }
    return to;
  }
  ORCH_INLINE void transposed(uint32_t* to, const bf16* x, int64_t n) {
    for (int64_t start = 0; start < n; start += kPanel, to += kPanel * kWidth) {
      const int64_t count = min_of(kPanel, n - start);
      if (count < kPanel) std::memset(to, 0, 4 * kPanel * kWidth);
      for (int64_t j = 0; j < count; ++j) {
        for (int64_t i = 0; i < kWidth; ++i)
          std::memcpy(to + i * kPanel + j, x + (start + j) * kHeadDim + 2 * i, 4);
      }
    }
  }
};
#endif

/// Cuts the caller's scratch into 64-byte aligned pieces; with a null base it only counts.
struct Scratch {
  char* base;
  size_t used = 0;
  template <class U>
  U* take(int64_t count) {
    U* p = base ? reinterpret_cast<U*>(base + used) : nullptr;
    used += static_cast<size_t>(round_up(count * static_cast<int64_t>(sizeof(U)), 64));
    return p;
  }
};

/// Sizes derived from the number of tokens S.
struct Sizes {
  int64_t vectors;  ///< of a row of logits
  int64_t columns;  ///< vectors * kLanes
  int64_t panels;   ///< columns rounded up to whole panels
  explicit Sizes(int64_t tokens)
      : vectors((tokens + kLanes - 1) / kLanes),
        columns(vectors * kLanes),
        panels(round_up(tokens, kPanel)) {}
};

template <class Unit>
struct ForwardBuffers {
  Unit *k, *v, *q, *p;
  float *logits, *out;
  ForwardBuffers(Scratch& s, int64_t tokens, int64_t width) {
    const Sizes z(tokens);
    k = s.take<Unit>(z.panels * width);
    v = s.take<Unit>(z.columns * kHeadDim);
    q = s.take<Unit>(kRows * kHeadDim);
    p = s.take<Unit>(kRows * z.columns);
    logits = s.take<float>(kRows * z.columns);
    out = s.take<float>(kRows * kHeadDim);
  }
};

template <class Unit>
struct BackwardBuffers {
  Unit *kt, *vt, *k, *q, *q_summed, *dout, *dout_summed, *p_pairs, *ds, *ds_pairs;
  float *logits, *dp, *dq, *dk, *dv, *delta;
  BackwardBuffers(Scratch& s, int64_t tokens, int64_t width) {
    const Sizes z(tokens);
    kt = s.take<Unit>(z.panels * width);
    vt = s.take<Unit>(z.panels * width);
    k = s.take<Unit>(z.columns * kHeadDim);
    q = s.take<Unit>(kRows * kHeadDim);
    q_summed = s.take<Unit>(kRows * kHeadDim);
    dout = s.take<Unit>(kRows * kHeadDim);
    dout_summed = s.take<Unit>(kRows * kHeadDim);
    p_pairs = s.take<Unit>(kRows * z.columns);
    ds = s.take<Unit>(kRows * z.columns);
    ds_pairs = s.take<Unit>(kRows * z.columns);
    logits = s.take<float>(kRows * z.columns);
    dp = s.take<float>(kRows * z.columns);
    dq = s.take<float>(kRows * kHeadDim);
    dk = s.take<float>(tokens * kHeadDim);
    dv = s.take<float>(tokens * kHeadDim);
    delta = s.take<float>(kRows);
  }
};

template <class T>
size_t attention_scratch_bytes(const AttentionDims& d) {
  using Op = typename OperandsOf<T>::Op;
  Scratch forward{nullptr}, backward{nullptr};
  ForwardBuffers<typename Op::Unit>(forward, d.tokens, Pack<T, Op>::kWidth);
  BackwardBuffers<typename Op::Unit>(backward, d.tokens, Pack<T, Op>::kWidth);
  return forward.used > backward.used ? forward.used : backward.used;
}

/// Where row `position` of the joint sequence lies in one of the two streams' arrays.
template <class T>
ORCH_INLINE T* joint_row(T* a0, T* a1, const AttentionDims& d, int64_t sample, int64_t head,
                         int64_t position) {
  const int64_t width = d.heads * kHeadDim;
  if (position < d.split) return a0 + (sample * d.split + position) * width + head * kHeadDim;
  return a1 + (sample * (d.tokens - d.split) + position - d.split) * width + head * kHeadDim;
}

struct RowSums {
  float max, sum, max_abs;
  double weighted;  ///< sum of p * logit, unnormalised
};

/// Turns one row of raw dot products into unnormalised probabilities exp(scale * (x - max)).
template <class T, class Op, bool Stats>
ORCH_INLINE RowSums softmax_row(typename Op::Unit* p, float* x, int64_t tokens, const Sizes& z) {
  const int64_t whole = tokens / kLanes * kLanes;
  if (whole < tokens) {
    for (int64_t j = tokens; j < z.columns; ++j) x[j] = kNever;
  }
  vf m = splat(-__builtin_inff()), low = splat(__builtin_inff());
  for (int64_t j = 0; j < z.columns; j += kLanes) m = max_of(load(x + j), m);
  if constexpr (Stats) {
    for (int64_t j = 0; j < whole; j += kLanes) low = min_of(load(x + j), low);
    for (int64_t j = whole; j < tokens; ++j) low = min_of(splat(x[j]), low);
  }
  RowSums r;
  r.max = max_lanes(m);
  r.max_abs = 0;
  r.weighted = 0;
  if constexpr (Stats) {
    const float lowest = -max_lanes(-low);
    r.max_abs = kScale * (r.max > -lowest ? r.max : -lowest);
  }
  const vf c = splat(kScale * kLog2e), base = splat(r.max * (kScale * kLog2e));
  vf sum = {}, weighted = {};
  for (int64_t j = 0; j < z.columns; j += kLanes) {
    const vf s = load(x + j);
    const vf e = exp2_of < is_bf16<T> ? 5 : 6 > (s * c - base);
    sum += e;
    if constexpr (Stats) weighted += e * s;
    if constexpr (Op::kPerUnit == 1) {
      store(p + j, e);
    } else {
      store(reinterpret_cast<bf16*>(p) + j, e);
    }
  }
  r.sum = sum_lanes(sum);
  if constexpr (Stats) r.weighted = kScale * static_cast<double>(sum_lanes(weighted));
  return r;
}

template <class T, bool Stats>
void forward(T* out0, T* out1, float* lse, AttentionStats* stats, const T* q, const T* k, const T* v,
             const AttentionDims& d, void* scratch) {
  using Op = typename OperandsOf<T>::Op;
  using P = Pack<T, Op>;
  using Unit = typename Op::Unit;
  Scratch space{static_cast<char*>(scratch)};
  const ForwardBuffers<Unit> w(space, d.tokens, P::kWidth);
  const Sizes z(d.tokens);
  const int64_t summed = (d.tokens + Op::kPerUnit - 1) / Op::kPerUnit;  // units along the keys
  const int64_t p_stride = z.columns / Op::kPerUnit;
  float largest = 0;
  double entropy = 0;
  for (int64_t bh = 0; bh < d.samples * d.heads; ++bh) {
    const int64_t sample = bh / d.heads, head = bh % d.heads;
    const T* qh = q + bh * d.tokens * kHeadDim;
    P::transposed(w.k, k + bh * d.tokens * kHeadDim, d.tokens);
    const Unit* vp = P::summed_rows(w.v, v + bh * d.tokens * kHeadDim, kHeadDim, d.tokens);
    for (int64_t start = d.first_query; start < d.tokens; start += kRows) {
      const int64_t rows = min_of(kRows, d.tokens - start);
      const Unit* qp = P::rows(w.q, qh + start * kHeadDim, kHeadDim, rows);
      gemm<Op, false>(w.logits, z.columns, qp, P::kWidth, 1, w.k, kPanel, kPanel * P::kWidth, rows, z.vectors,
                      P::kWidth);
      float inverse[kRows];
      for (int64_t r = 0; r < rows; ++r) {
        const RowSums s =
            softmax_row<T, Op, Stats>(w.p + r * p_stride, w.logits + r * z.columns, d.tokens, z);
        const float l = s.max * kScale + ::logf(s.sum);
        inverse[r] = 1.0f / s.sum;
        lse[bh * d.tokens + start + r] = l;
        if constexpr (Stats) {
          largest = s.max_abs > largest || s.max_abs != s.max_abs ? s.max_abs : largest;
          entropy += static_cast<double>(l) - s.weighted / static_cast<double>(s.sum);
        }
      }
      gemm<Op, false>(w.out, kHeadDim, w.p, p_stride, 1, vp, kHeadDim, kPanel, rows, kHeadVectors, summed);
      for (int64_t r = 0; r < rows; ++r) {
        T* to = joint_row(out0, out1, d, sample, head, start + r);
        for (int64_t i = 0; i < kHeadDim; i += kLanes) {
          store(to + i, load(w.out + r * kHeadDim + i) * splat(inverse[r]));
        }
      }
    }
  }
  if constexpr (Stats) {
    stats->max_abs_logit = largest;
    stats->entropy_sum = entropy;
    stats->rows = d.samples * d.heads * (d.tokens - d.first_query);
  }
}

template <class T>
void attention(T* out0, T* out1, float* lse, AttentionStats* stats, const T* q, const T* k, const T* v,
               const AttentionDims& d, void* scratch) {
  if (stats) {
    forward<T, true>(out0, out1, lse, stats, q, k, v, d, scratch);
  } else {
    forward<T, false>(out0, out1, lse, nullptr, q, k, v, d, scratch);
  }
}

/// One row's probabilities and logit gradients, in place: x becomes p, y becomes ds = p * (dp - delta) *
/// scale.
template <class T>
ORCH_INLINE void softmax_backward_row(float* x, float* y, float lse, float delta, int64_t tokens,
                                      const Sizes& z) {
  const vf c = splat(kScale * kLog2e), base = splat(lse * kLog2e), dl = splat(delta), scale = splat(kScale);
  for (int64_t j = 0; j < z.columns; j += kLanes) {
    const vf p = exp2_of < is_bf16<T> ? 5 : 6 > (load(x + j) * c - base);
    store(x + j, p);
    store(y + j, p * (load(y + j) - dl) * scale);
  }
  for (int64_t j = tokens; j < z.columns; ++j) x[j] = y[j] = 0;
}

#if defined(__AVX512BF16__)
/// Rows r and r + 1 in one unit.
ORCH_INLINE vf pair_rows(vf low, vf high) {
  const vu l = __builtin_convertvector(narrow_bits(low), vu),
           h = __builtin_convertvector(narrow_bits(high), vu);
  return (vf)(l | (h << 16));
}
#endif

template <class T>
void attention_backward(T* dq, T* dk, T* dv, const T* dout0, const T* dout1, const T* out0, const T* out1,
                        const float* lse, const T* q, const T* k, const T* v, const AttentionDims& d,
                        void* scratch) {
  using Op = typename OperandsOf<T>::Op;
  using P = Pack<T, Op>;
  using Unit = typename Op::Unit;
  Scratch space{static_cast<char*>(scratch)};
  const BackwardBuffers<Unit> w(space, d.tokens, P::kWidth);
  const Sizes z(d.tokens);
  const int64_t summed = (d.tokens + Op::kPerUnit - 1) / Op::kPerUnit;
  for (int64_t bh = 0; bh < d.samples * d.heads; ++bh) {
    const int64_t sample = bh / d.heads, head = bh % d.heads;
    const int64_t at = bh * d.tokens * kHeadDim;
    P::transposed(w.kt, k + at, d.tokens);
    P::transposed(w.vt, v + at, d.tokens);
    const Unit* kp = P::summed_rows(w.k, k + at, kHeadDim, d.tokens);
    std::memset(w.dk, 0, static_cast<size_t>(d.tokens * kHeadDim) * 4);
    std::memset(w.dv, 0, static_cast<size_t>(d.tokens * kHeadDim) * 4);
    for (int64_t start = d.first_query; start < d.tokens; start += kRows) {
      const int64_t rows = min_of(kRows, d.tokens - start), units = (rows + Op::kPerUnit - 1) / Op::kPerUnit;
      const T* qh = q + at + start * kHeadDim;
      // The block's output gradients, gathered from their stream, and delta = rowsum(dout * out).
      alignas(64) T dout[kRows * kHeadDim];
      for (int64_t r = 0; r < rows; ++r) {
        const T* g = joint_row(dout0, dout1, d, sample, head, start + r);
        const T* o = joint_row(out0, out1, d, sample, head, start + r);
        std::memcpy(dout + r * kHeadDim, g, kHeadDim * sizeof(T));
        vf sum = {};
        for (int64_t i = 0; i < kHeadDim; i += kLanes) sum += load(g + i) * load(o + i);
        w.delta[r] = sum_lanes(sum);
      }
      const Unit* qp = P::rows(w.q, qh, kHeadDim, rows);
      const Unit* gp = P::rows(w.dout, dout, kHeadDim, rows);
      const Unit* qs = P::summed_rows(w.q_summed, qh, kHeadDim, rows);
      const Unit* gs = P::summed_rows(w.dout_summed, dout, kHeadDim, rows);
      gemm<Op, false>(w.logits, z.columns, qp, P::kWidth, 1, w.kt, kPanel, kPanel * P::kWidth, rows,
                      z.vectors, P::kWidth);
      gemm<Op, false>(w.dp, z.columns, gp, P::kWidth, 1, w.vt, kPanel, kPanel * P::kWidth, rows, z.vectors,
                      P::kWidth);
      for (int64_t r = 0; r < rows; ++r) {
        softmax_backward_row<T>(w.logits + r * z.columns, w.dp + r * z.columns,
                                lse[bh * d.tokens + start + r], w.delta[r], d.tokens, z);
      }
      const Unit *p_pairs, *ds, *ds_pairs;
      int64_t ds_stride;
      if constexpr (Op::kPerUnit == 1) {
        p_pairs = w.logits;
        ds = ds_pairs = w.dp;
        ds_stride = z.columns;
      } else {
#if defined(__AVX512BF16__)
        for (int64_t r = 0; r < rows; r += 2) {
          const float *p0 = w.logits + r * z.columns, *s0 = w.dp + r * z.columns;
          const bool both = r + 1 < rows;
          bf16* row = reinterpret_cast<bf16*>(w.ds) + r * z.columns;
          for (int64_t j = 0; j < z.columns; j += kLanes) {
            const vf a = load(s0 + j), b = both ? load(s0 + z.columns + j) : vf{};
            store(row + j, a);
            store(row + z.columns + j, b);
            store(reinterpret_cast<float*>(w.ds_pairs) + r / 2 * z.columns + j, pair_rows(a, b));
            store(reinterpret_cast<float*>(w.p_pairs) + r / 2 * z.columns + j,
                  pair_rows(load(p0 + j), both ? load(p0 + z.columns + j) : vf{}));
          }
        }
#endif
        p_pairs = w.p_pairs;
        ds = w.ds;
        ds_pairs = w.ds_pairs;
        ds_stride = z.columns / 2;
      }
      gemm<Op, false>(w.dq, kHeadDim, ds, ds_stride, 1, kp, kHeadDim, kPanel, rows, kHeadVectors, summed);
      gemm<Op, true>(w.dv, kHeadDim, p_pairs, 1, z.columns, gs, kHeadDim, kPanel, d.tokens, kHeadVectors,
                     units);
      gemm<Op, true>(w.dk, kHeadDim, ds_pairs, 1, z.columns, qs, kHeadDim, kPanel, d.tokens, kHeadVectors,
                     units);
      for (int64_t i = 0; i < rows * kHeadDim; i += kLanes)
        store(dq + at + start * kHeadDim + i, load(w.dq + i));
    }
    for (int64_t i = 0; i < d.tokens * kHeadDim; i += kLanes) {
      store(dk + at + i, load(w.dk + i));
      store(dv + at + i, load(w.dv + i));
    }
  }
}

template <class T>
void fill(Typed<T>& t) {
  t.attention_scratch_bytes = attention_scratch_bytes<T>;
  t.attention = attention<T>;
  t.attention_backward = attention_backward<T>;
}

}  // namespace

void fill_attention(Table& t) {
  fill(t.f32);
  fill(t.b16);
}

}  // namespace orch::kernels::ORCH_ISA
