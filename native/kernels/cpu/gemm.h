// Register blocking shared by matmul.cc and the small products inside attention: register tiles and panels of
// C (+)= A B, with C in fp32, and A and B in "units" of 32 bits. A unit is one fp32 number, or a pair of bf16
// numbers that are consecutive along the summed dimension, so that the same loops serve fused multiply-adds
// and vdpbf16ps.
#pragma once
#include "simd.h"

namespace orch::kernels::ORCH_ISA {

struct SingleOp {
  using Unit = float;
  using Vector = vf;
  static constexpr int kPerUnit = 1;
  ORCH_INLINE Vector broadcast(const Unit* p) { return splat(*p); }
  ORCH_INLINE Vector load_units(const Unit* p) { return load(p); }
  ORCH_INLINE vf multiply_add(vf sum, Vector a, Vector b) { return sum + a * b; }
};

#if defined(ORCH_PAIRS)
/// Two products per lane: the product of the second numbers is added first, then that of the first numbers,
/// each rounded separately (vdpbf16ps; BFDOT rounds differently).
struct PairOp {
  using Unit = uint32_t;
  using Vector = vu;
  static constexpr int kPerUnit = 2;
  ORCH_INLINE Vector broadcast(const Unit* p) {
    uint32_t u;
    std::memcpy(&u, p, 4);
#if defined(__AVX512BF16__)
    return (vu)_mm512_set1_epi32(static_cast<int32_t>(u));
#else
    return u - vu{};
#endif
  }
  ORCH_INLINE Vector load_units(const Unit* p) { return bits_of(load(reinterpret_cast<const float*>(p))); }
  ORCH_INLINE vf multiply_add(vf sum, Vector a, Vector b) {
#if defined(__AVX512BF16__)
    return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
    return (vf)vbfdotq_f32((float32x4_t)sum, (bfloat16x8_t)a, (bfloat16x8_t)b);
#else
    sum += (vf)(a & 0xffff0000u) * (vf)(b & 0xffff0000u);
    return sum + (vf)(a << 16) * (vf)(b << 16);
#endif
  }
};
#endif

/// bf16 operands are multiplied in pairs if the processor can, and as fp32 otherwise.
template <class T>
struct OperandsOf {
  using Op = SingleOp;
};
#if defined(ORCH_PAIRS)
template <>
struct OperandsOf<bf16> {
  using Op = PairOp;
};
#endif

/// Size of a register tile, in vectors of columns and in rows, chosen so that accumulators and operands fit
/// the registers (32 on AVX-512 and ARM64, 16 otherwise).
#if defined(ORCH_AVX512) || defined(__aarch64__)
constexpr int kTileVectors = 4;
#else
constexpr int kTileVectors = ORCH_LANES == 16 ? 4 : 2;
#endif
constexpr int kTileRows = 6;
/// Columns of a register tile and of a panel of B.
constexpr int64_t kPanel = kTileVectors * kLanes;

/// Calls f with the constant n, 1 <= n <= Most.
template <int N>
struct Constant {};
template <int Most, class F>
ORCH_INLINE void with_constant(int64_t n, F f) {
  if constexpr (Most > 1) {
    if (n < Most) return with_constant<Most - 1>(n, f);
  }
  f(Constant<Most>{});
}

/// One register tile. a(row, k) is at a[row * a_row + k * a_k]; b(k, column) at b[k * ldb + column].
template <class Op, int Rows, int Vectors, bool Accumulate>
static inline __attribute__((always_inline)) void tile(float* c, int64_t ldc, const typename Op::Unit* a,
                                                       int64_t a_row, int64_t a_k, const typename Op::Unit* b,
                                                       int64_t ldb, int64_t depth) {
  vf sum[Rows][Vectors];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) sum[r][v] = Accumulate ? load(c + r * ldc + v * kLanes) : vf{};
  }
  for (int64_t k = 0; k < depth; ++k) {
    typename Op::Vector bv[Vectors];
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) bv[v] = Op::load_units(b + k * ldb + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const typename Op::Vector av = Op::broadcast(a + r * a_row + k * a_k);
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) sum[r][v] = Op::multiply_add(sum[r][v], av, bv[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) store(c + r * ldc + v * kLanes, sum[r][v]);
  }
}

/// All rows of a panel that is `Vectors` vectors wide.
template <class Op, int Vectors, bool Accumulate>
static void panel_rows(float* c, int64_t ldc, const typename Op::Unit* a, int64_t a_row, int64_t a_k,
                       const typename Op::Unit* b, int64_t ldb, int64_t rows, int64_t depth) {
  int64_t r = 0;
  for (; r + kTileRows <= rows; r += kTileRows) {
    tile<Op, kTileRows, Vectors, Accumulate>(c + r * ldc, ldc, a + r * a_row, a_row, a_k, b, ldb, depth);
  }
  if (r == rows) return;
  const auto rest = [&]<int Rows>(Constant<Rows>) __attribute__((always_inline)) {
    tile<Op, Rows, Vectors, Accumulate>(c + r * ldc, ldc, a + r * a_row, a_row, a_k, b, ldb, depth);
  };
  with_constant<kTileRows - 1>(rows - r, rest);
}

/// C [rows, vectors * kLanes] (+)= A B. Panel p of B starts at b + p * panel_stride.
template <class Op, bool Accumulate>
static void gemm(float* c, int64_t ldc, const typename Op::Unit* a, int64_t a_row, int64_t a_k,
                 const typename Op::Unit* b, int64_t ldb, int64_t panel_stride, int64_t rows, int64_t vectors,
                 int64_t depth) {
  int64_t v = 0;
  for (; v + kTileVectors <= vectors; v += kTileVectors) {
    panel_rows<Op, kTileVectors, Accumulate>(c + v * kLanes, ldc, a, a_row, a_k, b, ldb, rows, depth);
    b += panel_stride;
  }
  if (v == vectors) return;
  const auto rest = [&]<int V>(Constant<V>) __attribute__((always_inline)) {
    panel_rows<Op, V, Accumulate>(c + v * kLanes, ldc, a, a_row, a_k, b, ldb, rows, depth);
  };
  with_constant<kTileVectors - 1>(vectors - v, rest);
}

/// Transposes the vectors get(0), ..., get(kLanes - 1) and stores the first `count` results at a distance of
/// `stride`.
template <class Get>
ORCH_INLINE void store_transposed(uint32_t* to, int64_t stride, int64_t count, Get get) {
  vu x[kLanes];
  for (int i = 0; i < kLanes; ++i) x[i] = get(i);
  transpose(x);
  if (count == kLanes) {  // unrolled
    for (int i = 0; i < kLanes; ++i) store_units(to + i * stride, x[i]);
  } else {
    for (int i = 0; i < count; ++i) store_units(to + i * stride, x[i]);
  }
}
/// Transposes the units get(row, unit .. unit + kLanes - 1) of n rows into panels [units][kPanel]. `units` is
/// a multiple of kLanes.
template <class Get>
ORCH_INLINE void transpose_panels(uint32_t* to, int64_t n, int64_t units, Get get) {
  for (int64_t row = 0; row < n; row += kLanes) {
    uint32_t* column = to + row / kPanel * kPanel * units + row % kPanel;
    const int64_t count = min_of(kLanes, n - row);
    for (int64_t unit = 0; unit < units; unit += kLanes) {
      const auto units_of = [&](int i) __attribute__((always_inline)) {
        return i < count ? get(row + i, unit) : vu{};
      };
      store_transposed(column + unit * kPanel, kPanel, kLanes, units_of);
    }
  }
}

#if defined(ORCH_PAIRS)
/// The units of kLanes columns from two rows of bf16.
ORCH_INLINE vu pair_rows(const bf16* first, const bf16* second) {
#if defined(ORCH_AVX512)
  alignas(64) static constexpr uint16_t kInterleave[32] = {0,  32, 1,  33, 2,  34, 3,  35, 4,  36, 5,
                                                           37, 6,  38, 7,  39, 8,  40, 9,  41, 10, 42,
                                                           11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
  const __m512i low = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(first)));
  const __m512i high = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(second)));
  return (vu)_mm512_permutex2var_epi16(low, _mm512_load_si512(kInterleave), high);
#else
  return bits_of(load(first)) >> 16 | bits_of(load(second));
#endif
}
#endif

}  // namespace orch::kernels::ORCH_ISA
