// The small matrix products inside attention: C (+)= A B with C fp32, and A and B in "units" of 32 bits. A
// unit is one fp32 number, or a pair of bf16 numbers that are consecutive along the summed dimension, so that
// the same loops serve fused multiply-adds and vdpbf16ps.
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

#if defined(__AVX512BF16__)
struct PairOp {
  using Unit = uint32_t;
  using Vector = __m512i;
  static constexpr int kPerUnit = 2;
  ORCH_INLINE Vector broadcast(const Unit* p) {
    int32_t u;
    std::memcpy(&u, p, 4);
    return _mm512_set1_epi32(u);
  }
  ORCH_INLINE Vector load_units(const Unit* p) { return _mm512_loadu_si512(p); }
  ORCH_INLINE vf multiply_add(vf sum, Vector a, Vector b) {
    return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
  }
};
#endif

/// Vectors of columns in a register tile, and rows: chosen so that the sums and the operands fit the
/// registers.
constexpr int kTileVectors = kLanes == 16 ? 4 : 2;
constexpr int kTileRows = 6;
/// Columns of a panel of B.
constexpr int64_t kPanel = kTileVectors * kLanes;

/// One register tile. a(row, k) at a[row * a_row + k * a_k]; b(k, column) at b[k * ldb + column].
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

/// All rows of a panel of `Vectors` vectors.
template <class Op, int Vectors, bool Accumulate>
static void panel_rows(float* c, int64_t ldc, const typename Op::Unit* a, int64_t a_row, int64_t a_k,
                       const typename Op::Unit* b, int64_t ldb, int64_t rows, int64_t depth) {
  int64_t r = 0;
  for (; r + kTileRows <= rows; r += kTileRows) {
    tile<Op, kTileRows, Vectors, Accumulate>(c + r * ldc, ldc, a + r * a_row, a_row, a_k, b, ldb, depth);
  }
  c += r * ldc;
  a += r * a_row;
  switch (rows - r) {
    case 5:
      tile<Op, 5, Vectors, Accumulate>(c, ldc, a, a_row, a_k, b, ldb, depth);
      break;
    case 4:
      tile<Op, 4, Vectors, Accumulate>(c, ldc, a, a_row, a_k, b, ldb, depth);
      break;
    case 3:
      tile<Op, 3, Vectors, Accumulate>(c, ldc, a, a_row, a_k, b, ldb, depth);
      break;
    case 2:
      tile<Op, 2, Vectors, Accumulate>(c, ldc, a, a_row, a_k, b, ldb, depth);
      break;
    case 1:
      tile<Op, 1, Vectors, Accumulate>(c, ldc, a, a_row, a_k, b, ldb, depth);
      break;
    default:
      break;
  }
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
  c += v * kLanes;
  switch (vectors - v) {
    case 3:
      panel_rows<Op, 3, Accumulate>(c, ldc, a, a_row, a_k, b, ldb, rows, depth);
      break;
    case 2:
      panel_rows<Op, 2, Accumulate>(c, ldc, a, a_row, a_k, b, ldb, rows, depth);
      break;
    case 1:
      panel_rows<Op, 1, Accumulate>(c, ldc, a, a_row, a_k, b, ldb, rows, depth);
      break;
    default:
      break;
  }
}

#if ORCH_LANES == 16
/// Units get(row, unit .. unit + 15) of n rows, transposed into panels [units][kPanel].
template <class Get>
ORCH_INLINE void transpose_panels(uint32_t* to, int64_t n, int64_t units, Get get) {
  for (int64_t row = 0; row < n; row += 16) {
    uint32_t* column = to + row / kPanel * kPanel * units + row % kPanel;
    const int64_t count = min_of(16, n - row);
    for (int64_t unit = 0; unit < units; unit += 16) {
      vu x[16];
      if (count == 16) {
        for (int i = 0; i < 16; ++i) x[i] = get(row + i, unit);
      } else {
        for (int i = 0; i < 16; ++i) x[i] = i < count ? get(row + i, unit) : vu{};
      }
      transpose(x);
      for (int i = 0; i < 16; ++i) store(reinterpret_cast<float*>(column + (unit + i) * kPanel), (vf)x[i]);
    }
  }
}
#endif

#if defined(__AVX512BF16__)
/// Elements first .. first + 15 of one vector of bf16, each followed by that of a second (vpermt2w).
ORCH_INLINE __m512i interleave_order(int first) {
  uint16_t order[32];
  for (int i = 0; i < 16; ++i) {
    order[2 * i] = static_cast<uint16_t>(first + i);
    order[2 * i + 1] = static_cast<uint16_t>(first + i + 32);
  }
  return _mm512_loadu_si512(order);
}
#endif

}  // namespace orch::kernels::ORCH_ISA
