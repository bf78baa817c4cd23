// Matrix products of bf16 operands, for processors that multiply them in pairs (vdpbf16ps).
//
// B is packed 64 columns at a time into a panel [k / 2][64] of pairs, which stays in the second-level cache
// while A passes by, six rows at a time; the 6 x 64 sums stay in registers over the whole depth. A transposed
// A is turned into rows of pairs first. In a training step the operands come from memory: what is needed next
// is fetched meanwhile, some lines with every tile.
#include "families.h"
#include "gemm.h"

namespace orch::kernels::ORCH_ISA {
#if defined(__AVX512BF16__)
namespace {

enum class Store { Plain, Add, Stream };

constexpr int64_t kTurned = 96;  // columns of a transposed A that are turned at once: tiles and vectors
constexpr int64_t kBlock = 8 * kTurned;  // and that are kept, or twice as many if they are short
constexpr int64_t kShort = 2048;         // rows of a transposed A

/// Bytes to come, line by line.
struct Ahead {
  const char* row;
  int64_t stride, width, rows;
  int64_t share;  ///< lines fetched with a tile
  int64_t at = 0;

  Ahead(const bf16* from, int64_t ld, int64_t columns, int64_t n, int64_t tiles)
      : row(reinterpret_cast<const char*>(from)), stride(2 * ld), width(2 * columns), rows(n) {
    share = (width + 63) / 64 * rows / tiles + 1;
  }
  inline __attribute__((always_inline)) void fetch() {
    for (int64_t i = 0; i < share && rows > 0; ++i) {
      __builtin_prefetch(row + at, 0, 2);
      at += 64;
      if (at < width) continue;
      at = 0;
      row += stride;
      --rows;
    }
  }
};

/// C [Rows, 64] from rows of pairs and a panel.
template <int Rows, Store S, class C>
ORCH_INLINE void tile_rows(C* c, int64_t ldc, const uint32_t* a, int64_t lda, const uint32_t* panel,
                           int64_t units, const float* bias) {
  constexpr int64_t kLine = 16;  // units
  vf sum[Rows][kTileVectors];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
    if constexpr (S != Store::Stream) {
      for (int64_t i = 0; i < kPanel; i += 64 / static_cast<int64_t>(sizeof(C))) {
        __builtin_prefetch(c + r * ldc + i, 1);
      }
    }
#pragma GCC unroll 8
    for (int v = 0; v < kTileVectors; ++v) sum[r][v] = bias ? load(bias + v * kLanes) : vf{};
  }
  for (int64_t line = 0; line < units; line += kLine) {
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) __builtin_prefetch(a + (r + Rows) * lda + line);
    const int64_t end = min_of(line + kLine, units);
    for (int64_t k = line; k < end; ++k) {
      PairOp::Vector b[kTileVectors];
#pragma GCC unroll 8
      for (int v = 0; v < kTileVectors; ++v) b[v] = PairOp::load_units(panel + k * kPanel + v * kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) {
        const PairOp::Vector x = PairOp::broadcast(a + r * lda + k);
#pragma GCC unroll 8
        for (int v = 0; v < kTileVectors; ++v) sum[r][v] = PairOp::multiply_add(sum[r][v], x, b[v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kTileVectors; v += 2) {
      C* to = c + r * ldc + v * kLanes;
      if constexpr (S == Store::Stream) {
        _mm512_stream_ps(to, (__m512)sum[r][v]);
        _mm512_stream_ps(to + kLanes, (__m512)sum[r][v + 1]);
      } else if constexpr (S == Store::Add) {
        store2(to, load(to) + sum[r][v], load(to + kLanes) + sum[r][v + 1]);
      } else {
        store2(to, sum[r][v], sum[r][v + 1]);
      }
    }
  }
}

/// All m rows of a panel's columns.
template <Store S, class C>
void tiles(C* c, int64_t ldc, const uint32_t* a, int64_t lda, const uint32_t* panel, int64_t units,
           const float* bias, int64_t m, Ahead& next) {
  for (; m >= kTileRows; m -= kTileRows, c += kTileRows * ldc, a += kTileRows * lda) {
    next.fetch();
    tile_rows<kTileRows, S>(c, ldc, a, lda, panel, units, bias);
  }
  next.fetch();
  switch (m) {
    case 5:
      return tile_rows<5, S>(c, ldc, a, lda, panel, units, bias);
    case 4:
      return tile_rows<4, S>(c, ldc, a, lda, panel, units, bias);
    case 3:
      return tile_rows<3, S>(c, ldc, a, lda, panel, units, bias);
    case 2:
      return tile_rows<2, S>(c, ldc, a, lda, panel, units, bias);
    case 1:
      return tile_rows<1, S>(c, ldc, a, lda, panel, units, bias);
    default:
      return;
  }
}

ORCH_INLINE __m512i row_or_zero(const bf16* x, int64_t ld, int64_t row, int64_t rows) {
  return row < rows ? _mm512_loadu_si512(x + row * ld) : _mm512_setzero_si512();
}

/// Columns of a panel from B [k, ldb].
void pack_panel(uint32_t* to, const bf16* b, int64_t ldb, int64_t k) {
  const __m512i even = interleave_order(0), odd = interleave_order(16);
  for (int64_t r = 0; r < k; r += 2, to += kPanel) {
    for (int64_t i = 0; i < kPanel; i += 32) {
      const __m512i low = _mm512_loadu_si512(b + r * ldb + i), high = row_or_zero(b + i, ldb, r + 1, k);
      _mm512_storeu_si512(to + i, _mm512_permutex2var_epi16(low, even, high));
      _mm512_storeu_si512(to + i + 16, _mm512_permutex2var_epi16(low, odd, high));
    }
  }
}
/// The same from rows of a transposed B [64, k], k a multiple of 32.
void pack_panel_transposed(uint32_t* to, const bf16* b, int64_t k) {
  transpose_panels(to, kPanel, k / 2, [=](int64_t row, int64_t unit) {
    return bits_of(load(reinterpret_cast<const float*>(b + row * k + 2 * unit)));
  });
}

/// `columns` (a multiple of 32) columns of A [k, lda] as rows of pairs, zero beyond k.
void turn(uint32_t* to, int64_t stride, const bf16* a, int64_t lda, int64_t k, int64_t columns) {
  for (int64_t c = 0; c < columns; c += 16) {
    const __m512i order = interleave_order(static_cast<int>(c % 32));
    for (int64_t unit = 0; 2 * unit < k; unit += 16) {
      vu x[16];
      for (int i = 0; i < 16; ++i) {
        const int64_t row = 2 * (unit + i);
        x[i] = (vu)_mm512_permutex2var_epi16(row_or_zero(a + c / 32 * 32, lda, row, k), order,
                                             row_or_zero(a + c / 32 * 32, lda, row + 1, k));
      }
      transpose(x);
      for (int i = 0; i < 16; ++i) store(reinterpret_cast<float*>(to + (c + i) * stride + unit), (vf)x[i]);
    }
  }
}

bool fits(const MatmulDims& d) {
  return d.n % kPanel == 0 && (d.transpose_a ? d.m % 32 == 0 && !d.transpose_b : d.k % 32 == 0);
}

int64_t panel_units(const MatmulDims& d) { return (d.k + 1) / 2 * kPanel; }
/// From one turned row to the next: a line more than its pairs, or rows of many powers of two would share few
/// places of the first-level cache.
int64_t turned_stride(const MatmulDims& d) { return round_up(d.k, 32) / 2 + 16; }
/// Columns of a transposed A that are kept: B is packed anew for each block of them.
int64_t block_of(const MatmulDims& d) { return min_of(d.m, d.k > kShort ? kBlock : 2 * kBlock); }
size_t scratch_bytes(const MatmulDims& d) {
  return 4 * static_cast<size_t>(panel_units(d) + d.transpose_a * block_of(d) * turned_stride(d));
}

/// Whether parts are rows of C, not columns. Each part packs the other operand for itself: that should be the
/// smaller one. (An A that is not transposed is not packed at all.)
bool by_rows(const MatmulDims& d) { return d.transpose_a && d.m > d.n; }
int64_t parts(const MatmulDims& d) { return by_rows(d) ? d.m / 32 : d.n / kPanel; }
/// Every call packs B, or turns A, anew: worth 16 rows, or a sixth of a panel.
int64_t grain(const MatmulDims& d) { return by_rows(d) ? 12 : d.transpose_a ? 8 : 1; }

template <Store S, class C>
void multiply(C* c, const bf16* a, const bf16* b, const float* bias, const MatmulDims& d, int64_t from,
              int64_t to, void* scratch) {
  uint32_t* panel = static_cast<uint32_t*>(scratch);
  uint32_t* turned = panel + panel_units(d);
  const int64_t units = (d.k + 1) / 2, lda = d.transpose_a ? turned_stride(d) : units;
  const int64_t block = d.transpose_a ? block_of(d) : d.m;
  const bool rows_only = by_rows(d);
  const int64_t first_row = rows_only ? 32 * from : 0, last_row = rows_only ? 32 * to : d.m;
  const int64_t first_column = rows_only ? 0 : kPanel * from, end = rows_only ? d.n : kPanel * to;
  for (int64_t i = first_row; i < last_row; i += block) {
    const int64_t rows = min_of(block, last_row - i), count = (rows + kTileRows - 1) / kTileRows;
    for (int64_t j = first_column; j < end; j += kPanel) {
      const bf16* here = b + j * (d.transpose_b ? d.k : 1);
      if (d.transpose_b) {
        pack_panel_transposed(panel, here, d.k);
      } else {
        pack_panel(panel, here, d.n, d.k);
      }
      const bf16* then = here + kPanel * (d.transpose_b ? d.k : 1);
      Ahead next(then, d.n, d.transpose_b ? kPanel * d.k : kPanel, d.transpose_b ? 1 : d.k, count);
      if (j + kPanel >= end) next.rows = 0;
      C* out = c + i * d.n + j;
      const float* const start = bias ? bias + j : nullptr;
      if (!d.transpose_a) {
        tiles<S>(out, d.n, reinterpret_cast<const uint32_t*>(a), lda, panel, units, start, rows, next);
      } else if (j > first_column) {
        tiles<S>(out, d.n, turned, lda, panel, units, start, rows, next);
      } else {
        for (int64_t r = 0; r < rows; r += kTurned) {
          const int64_t n = min_of(kTurned, rows - r), at = i + r + n;
          turn(turned + r * lda, lda, a + i + r, d.m, d.k, n);
          Ahead columns(a + at, d.m, min_of(kTurned, last_row - at), at < last_row ? d.k : 0, n / kTileRows);
          tiles<S>(out + r * d.n, d.n, turned + r * lda, lda, panel, units, start, n, columns);
        }
      }
    }
  }
  if constexpr (S == Store::Stream) _mm_sfence();
}

void matmul(void* c, const bf16* a, const bf16* b, const float* bias, const MatmulDims& d, int64_t from,
            int64_t to, void* scratch) {
  if (!d.single) return multiply<Store::Plain>(static_cast<bf16*>(c), a, b, bias, d, from, to, scratch);
  float* single = static_cast<float*>(c);
  if (d.accumulate) return multiply<Store::Add>(single, a, b, bias, d, from, to, scratch);
  // A weight's gradient is read much later: it need not pass the caches.
  if (d.transpose_a && reinterpret_cast<uintptr_t>(c) % 64 == 0) {
    return multiply<Store::Stream>(single, a, b, bias, d, from, to, scratch);
  }
  multiply<Store::Plain>(single, a, b, bias, d, from, to, scratch);
}

}  // namespace

void fill_matmul(Table& t) { t.matmul = {fits, scratch_bytes, parts, grain, matmul}; }

#else
void fill_matmul(Table&) {}
#endif

}  // namespace orch::kernels::ORCH_ISA
