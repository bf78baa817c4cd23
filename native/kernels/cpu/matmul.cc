// Matrix products of fp32 or bf16 operands, accumulated in fp32.
//
// Operands are multiplied in "units" (gemm.h): fp32 numbers, or pairs of bf16 numbers if the processor
// multiplies pairs; if it does not, packing widens bf16 to fp32.
//
// Packing: B is packed 64 columns at a time into adjacent panels [units][kPanel], which stay in the L2 cache
// while A is processed six rows at a time. Register blocking: the 6 x kPanel accumulators stay in registers
// over the whole depth, or over kDepth of it. A is read in place if its rows are rows of units already;
// otherwise it is first packed (transposed or widened) into such rows. In a training step the operands come
// from memory, so each tile also prefetches some lines of what is needed next.
//
// The order of each sum depends on the depth and the instruction set alone, so C may be cut anywhere.
#include "families.h"
#include "gemm.h"

namespace orch::kernels::ORCH_ISA {
namespace {

enum class Store { Plain, Add, Stream };

constexpr int64_t kColumns = 64;             // columns of B packed at once
constexpr int64_t kPartRows = 32;            // rows per part, if C is cut along its rows
constexpr int64_t kPackedRows = 96;          // rows of A packed at once: a multiple of tiles and of vectors
constexpr int64_t kBlock = 8 * kPackedRows;  // packed rows kept; twice as many if they are short
constexpr int64_t kShort = 2048;             // depth up to which a row is short
/// Depth of a pass over fp32 operands with an fp32 C, which accumulates the sums of the passes.
constexpr int64_t kDepth = ORCH_LANES == 16 ? 1024 : 512;
static_assert(kColumns % kPanel == 0 && kPackedRows % kTileRows == 0 && kPackedRows % kLanes == 0);

/// Memory to prefetch, line by line.
struct Prefetch {
  const char* row;
  int64_t stride, width, rows;
  int64_t share;  ///< lines prefetched per tile
  int64_t at = 0;

  template <class T>
  Prefetch(const T* from, int64_t ld, int64_t columns, int64_t n, int64_t tiles)
      : row(reinterpret_cast<const char*>(from)),
        stride(static_cast<int64_t>(sizeof(T)) * ld),
        width(static_cast<int64_t>(sizeof(T)) * columns),
        rows(n) {
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

// --- packing

/// kLanes units, beginning at any element of a row.
template <class Op, class T>
ORCH_INLINE vu units_at(const T* row) {
  if constexpr (Op::kPerUnit == 1) {
    return bits_of(load(row));
  } else {
    vu pairs;  // rows of odd length begin at any alignment
    std::memcpy(&pairs, row, sizeof pairs);
    return pairs;
  }
}
/// Tail handling: the same if only `left` elements remain (possibly none); the others are zero.
template <class Op, class T>
ORCH_INLINE vu units_at(const T* row, int64_t left) {
  T some[kLanes * Op::kPerUnit] = {};
  if (left > 0) std::memcpy(some, row, static_cast<size_t>(min_of(left, kLanes * Op::kPerUnit)) * sizeof(T));
  return units_at<Op>(some);
}

/// One unit of each of kLanes columns, from the row at x and, for pairs, the next row.
template <class Op, class T>
ORCH_INLINE vu units_across(const T* x, [[maybe_unused]] int64_t ld) {
  if constexpr (Op::kPerUnit == 1) {
    return bits_of(load(x));
#if defined(ORCH_PAIRS)
  } else {
    return pair_rows(x, x + ld);
#endif
  }
}
/// Tail handling: the same if only `columns` columns and `rows` rows remain; the others are zero.
template <class Op, class T>
ORCH_INLINE vu units_across(const T* x, int64_t ld, int64_t columns, int64_t rows) {
  T some[Op::kPerUnit][kLanes] = {};
  for (int64_t r = 0; r < min_of(rows, Op::kPerUnit) && columns > 0; ++r)
    std::memcpy(some[r], x + r * ld, static_cast<size_t>(min_of(columns, kLanes)) * sizeof(T));
  return units_across<Op>(&some[0][0], kLanes);
}

/// Packs the columns of B that one call processes, kLanes at a time; the last vector may have fewer. Rows of
/// B [depth, ldb] are read in order.
template <class Op, class T>
void pack_columns(uint32_t* to, const T* b, int64_t ldb, int64_t depth, int64_t columns) {
  const int64_t units = (depth + Op::kPerUnit - 1) / Op::kPerUnit, whole = depth / Op::kPerUnit;
  const auto place = [&](int64_t column) { return to + column / kPanel * kPanel * units + column % kPanel; };
  for (int64_t unit = 0; unit < units; ++unit, b += Op::kPerUnit * ldb) {
    if (columns == kColumns && unit < whole) {
      for (int64_t c = 0; c < kColumns; c += kLanes)
        store_units(place(c) + unit * kPanel, units_across<Op>(b + c, ldb));
    } else {
      for (int64_t c = 0; c < round_up(columns, kPanel); c += kLanes)
        store_units(place(c) + unit * kPanel,
                    units_across<Op>(b + c, ldb, columns - c, depth - Op::kPerUnit * unit));
    }
  }
}

/// The same from a transposed B [columns, ldb].
template <class Op, class T>
void pack_columns_transposed(uint32_t* to, const T* b, int64_t ldb, int64_t depth, int64_t columns) {
  const int64_t units = (depth + Op::kPerUnit - 1) / Op::kPerUnit;
  for (int64_t c = 0; c < round_up(columns, kPanel); c += kLanes) {
    uint32_t* const panel = to + c / kPanel * kPanel * units + c % kPanel;
    for (int64_t unit = 0; unit < units; unit += kLanes) {
      const int64_t left = depth - Op::kPerUnit * unit, count = min_of(kLanes, units - unit);
      const T* from = b + c * ldb + Op::kPerUnit * unit;
      const auto whole = [&](int i) __attribute__((always_inline)) { return units_at<Op>(from + i * ldb); };
      const auto some = [&](int i) __attribute__((always_inline)) {
        return c + i < columns ? units_at<Op>(from + i * ldb, left) : vu{};
      };
      if (columns - c >= kLanes && left >= kLanes * Op::kPerUnit) {
        store_transposed(panel + unit * kPanel, kPanel, count, whole);
      } else {
        store_transposed(panel + unit * kPanel, kPanel, count, some);
      }
    }
  }
}

/// Packs rows of A [rows, lda] as rows of units, padded with zeros to a whole vector.
template <class Op, class T>
void pack_rows(uint32_t* to, int64_t stride, const T* a, int64_t lda, int64_t depth, int64_t rows) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t k = 0; k < depth; k += kLanes * Op::kPerUnit)
      store_units(to + r * stride + k / Op::kPerUnit, units_at<Op>(a + r * lda + k, depth - k));
}

/// The same from a transposed A [depth, lda].
template <class Op, class T>
void pack_rows_transposed(uint32_t* to, int64_t stride, const T* a, int64_t lda, int64_t depth,
                          int64_t rows) {
  const int64_t units = (depth + Op::kPerUnit - 1) / Op::kPerUnit;
  for (int64_t r = 0; r < rows; r += kLanes)
    for (int64_t unit = 0; unit < units; unit += kLanes) {
      const int64_t left = depth - Op::kPerUnit * unit, count = min_of(kLanes, rows - r);
      const T* from = a + r + Op::kPerUnit * unit * lda;
      uint32_t* const out = to + r * stride + unit;
      const int64_t step = Op::kPerUnit * lda;
      const auto whole = [&](int i) __attribute__((always_inline)) {
        return units_across<Op>(from + i * step, lda);
      };
      const auto some = [&](int i) __attribute__((always_inline)) {
        return units_across<Op>(from + i * step, lda, count, left - i * Op::kPerUnit);
      };
      if (count == kLanes && left >= kLanes * Op::kPerUnit) {
        store_transposed(out, stride, count, whole);
      } else {
        store_transposed(out, stride, count, some);
      }
    }
}

// --- tiles

/// C [Rows, kPanel] from rows of units and a panel.
template <class Op, int Rows, Store S, class C>
ORCH_INLINE void tile_rows(C* c, int64_t ldc, const typename Op::Unit* a, int64_t lda,
                           const typename Op::Unit* panel, int64_t units, const float* bias) {
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
      typename Op::Vector b[kTileVectors];
#pragma GCC unroll 8
      for (int v = 0; v < kTileVectors; ++v) b[v] = Op::load_units(panel + k * kPanel + v * kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) {
        const typename Op::Vector x = Op::broadcast(a + r * lda + k);
#pragma GCC unroll 8
        for (int v = 0; v < kTileVectors; ++v) sum[r][v] = Op::multiply_add(sum[r][v], x, b[v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kTileVectors; v += 2) {
      C* to = c + r * ldc + v * kLanes;
      if constexpr (S == Store::Stream) {
        store_streaming(to, sum[r][v]);
        store_streaming(to + kLanes, sum[r][v + 1]);
      } else if constexpr (S == Store::Add) {
        store2(to, load(to) + sum[r][v], load(to + kLanes) + sum[r][v + 1]);
      } else {
        store2(to, sum[r][v], sum[r][v + 1]);
      }
    }
  }
}

/// Tail handling: the first `columns` < kPanel columns of a tile of at most kTileRows rows.
template <class Op, Store S, class C>
void narrow_tile(C* c, int64_t ldc, const typename Op::Unit* a, int64_t lda, const typename Op::Unit* panel,
                 int64_t units, const float* bias, int64_t rows, int64_t columns) {
  alignas(64) float start[kPanel] = {}, sums[kTileRows * kPanel];
  if (bias) std::memcpy(start, bias, static_cast<size_t>(columns) * sizeof(float));
  const auto whole = [&]<int Rows>(Constant<Rows>) __attribute__((always_inline)) {
    tile_rows<Op, Rows, Store::Plain>(sums, kPanel, a, lda, panel, units, start);
  };
  with_constant<kTileRows>(rows, whole);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t j = 0; j < columns; j += kLanes) {
      const int64_t n = min_of(kLanes, columns - j);
      C* to = c + r * ldc + j;
      vf x = load(sums + r * kPanel + j);
      if constexpr (S == Store::Add) x += load_n(to, n);
      store_n(to, x, n);
    }
}

/// `rows` rows of the packed columns.
template <class Op, Store S, class C>
void tiles(C* c, int64_t ldc, const typename Op::Unit* a, int64_t lda, const typename Op::Unit* panels,
           int64_t units, const float* bias, int64_t rows, int64_t columns, Prefetch& next) {
  for (; rows > 0; rows -= kTileRows, c += kTileRows * ldc, a += kTileRows * lda) {
    next.fetch();
    const int64_t count = min_of(rows, kTileRows);
    for (int64_t j = 0; j < columns; j += kPanel) {
      const typename Op::Unit* panel = panels + j * units;
      const float* start = bias ? bias + j : nullptr;
      if (columns - j >= kPanel) {
        const auto whole = [&]<int Rows>(Constant<Rows>) __attribute__((always_inline)) {
          tile_rows<Op, Rows, S>(c + j, ldc, a, lda, panel, units, start);
        };
        with_constant<kTileRows>(count, whole);
      } else {
        narrow_tile<Op, S>(c + j, ldc, a, lda, panel, units, start, count, columns - j);
      }
    }
  }
}

// --- the product

template <class T>
using OpOf = typename OperandsOf<T>::Op;

template <class T>
constexpr bool kUnitsAreElements = sizeof(T) == 4;

/// How a product is computed; follows from its shape alone.
template <class T>
struct Blocking {
  bool direct;     ///< the rows of A are rows of units in place
  bool by_rows;    ///< parts are rows of C, not columns; each part packs the other operand, the smaller one
  int64_t depth;   ///< of a pass: the whole depth if C cannot accumulate sums
  int64_t units;   ///< of this depth
  int64_t stride;  ///< of packed rows of A
  int64_t block;   ///< packed rows that are kept; B is packed again for each block of them

  explicit Blocking(const MatmulSpec& s) {
    constexpr int64_t kPerUnit = OpOf<T>::kPerUnit;
    direct = !s.transpose_a && (kUnitsAreElements<T> || (kPerUnit == 2 && s.k % 2 == 0));
    by_rows = !direct && s.m > s.n;
    depth = kUnitsAreElements<T> && s.c == DType::F32 ? min_of(s.k, kDepth) : s.k;
    units = (depth + kPerUnit - 1) / kPerUnit;
    // One cache line more than the units, because rows at a multiple of a large power of two would share few
    // sets of the L1 cache.
    stride = direct ? s.k / kPerUnit : round_up(units, 16) + 16;
    block = direct ? s.m : min_of(s.m, depth > kShort ? kBlock : 2 * kBlock);
  }
};
template <class T>
size_t scratch_bytes(const MatmulSpec& s) {
  const Blocking<T> b(s);
  return 4 * static_cast<size_t>(kColumns * b.units + (b.direct ? 0 : b.block * b.stride));
}
template <class T>
int64_t parts(const MatmulSpec& s) {
  return Blocking<T>(s).by_rows ? (s.m + kPartRows - 1) / kPartRows : (s.n + kColumns - 1) / kColumns;
}
/// Every call packs B, or A, which costs as much as 16 rows, or a sixth of the columns packed.
template <class T>
int64_t grain(const MatmulSpec& s) {
  const Blocking<T> b(s);
  return b.by_rows ? 12 : b.direct ? 1 : 8;
}

/// Adds the products over depth [k, k + depth) to parts [from, to).
template <class T, Store S, class C>
void multiply(C* c, const T* a, const T* b, const float* bias, const MatmulSpec& d, int64_t k, int64_t depth,
              int64_t from, int64_t to, uint32_t* scratch) {
  using Op = OpOf<T>;
  using Unit = typename Op::Unit;
  const Blocking<T> blocking(d);
  const bool direct = blocking.direct, by_rows = blocking.by_rows;
  uint32_t* const packed = scratch + kColumns * blocking.units;
  const int64_t units = (depth + Op::kPerUnit - 1) / Op::kPerUnit, stride = blocking.stride;
  const int64_t lda = d.transpose_a ? d.m : d.k, ldb = d.transpose_b ? d.k : d.n;
  a += k * (d.transpose_a ? lda : 1);
  b += k * (d.transpose_b ? 1 : ldb);
  const int64_t first_row = by_rows ? kPartRows * from : 0;
  const int64_t last_row = by_rows ? min_of(kPartRows * to, d.m) : d.m;
  const int64_t first_column = by_rows ? 0 : kColumns * from;
  const int64_t end = by_rows ? d.n : min_of(kColumns * to, d.n);
  for (int64_t i = first_row; i < last_row; i += blocking.block) {
    const int64_t rows = min_of(blocking.block, last_row - i), count = (rows + kTileRows - 1) / kTileRows;
    for (int64_t j = first_column; j < end; j += kColumns) {
      const int64_t columns = min_of(kColumns, end - j), after = min_of(kColumns, end - j - columns);
      const T* here = b + j * (d.transpose_b ? ldb : 1);
      if (d.transpose_b) {
        pack_columns_transposed<Op>(scratch, here, ldb, depth, columns);
      } else {
        pack_columns<Op>(scratch, here, ldb, depth, columns);
      }
      const T* then = here + kColumns * (d.transpose_b ? ldb : 1);
      Prefetch next = d.transpose_b ? Prefetch(then, ldb, depth, after, count)
                                    : Prefetch(then, ldb, after, after > 0 ? depth : 0, count);
      C* out = c + i * d.n + j;
      const float* const start = bias ? bias + j : nullptr;
      const Unit* panels = reinterpret_cast<const Unit*>(scratch);
      if (direct) {
        const Unit* in_place = reinterpret_cast<const Unit*>(a) + i * stride;
        tiles<Op, S>(out, d.n, in_place, stride, panels, units, start, rows, columns, next);
      } else if (j > first_column) {
        tiles<Op, S>(out, d.n, reinterpret_cast<const Unit*>(packed), stride, panels, units, start, rows,
                     columns, next);
      } else {
        for (int64_t r = 0; r < rows; r += kPackedRows) {
          const int64_t n = min_of(kPackedRows, rows - r), at = i + r + n,
                        more = min_of(kPackedRows, last_row - at);
          if (d.transpose_a) {
            pack_rows_transposed<Op>(packed + r * stride, stride, a + i + r, lda, depth, n);
          } else {
            pack_rows<Op>(packed + r * stride, stride, a + (i + r) * lda, lda, depth, n);
          }
          const int64_t tiles_here = (n + kTileRows - 1) / kTileRows;
          Prefetch rows_ahead = d.transpose_a ? Prefetch(a + at, lda, more, more > 0 ? depth : 0, tiles_here)
                                              : Prefetch(a + at * lda, lda, depth, more, tiles_here);
          tiles<Op, S>(out + r * d.n, d.n, reinterpret_cast<const Unit*>(packed + r * stride), stride, panels,
                       units, start, n, columns, rows_ahead);
        }
      }
    }
  }
  if constexpr (S == Store::Stream) end_streaming();
}

template <class T>
void matmul(void* c, const void* a, const void* b, const float* bias, const MatmulSpec& d, int64_t from,
            int64_t to, void* scratch) {
  const T *left = static_cast<const T*>(a), *right = static_cast<const T*>(b);
  uint32_t* space = static_cast<uint32_t*>(scratch);
  if (d.c != DType::F32) {
    return multiply<T, Store::Plain>(static_cast<bf16*>(c), left, right, bias, d, 0, d.k, from, to, space);
  }
  float* single = static_cast<float*>(c);
  const int64_t pass = Blocking<T>(d).depth;
  for (int64_t k = 0; k < d.k; k += pass) {
    const int64_t depth = min_of(pass, d.k - k);
    // A weight's gradient is read much later, so non-temporal stores keep it out of the caches.
    const bool much_later =
        d.transpose_a && pass == d.k && d.n % 16 == 0 && reinterpret_cast<uintptr_t>(c) % 64 == 0;
    if (d.accumulate || k > 0) {
      multiply<T, Store::Add>(single, left, right, k == 0 ? bias : nullptr, d, k, depth, from, to, space);
    } else if (much_later) {
      multiply<T, Store::Stream>(single, left, right, bias, d, k, depth, from, to, space);
    } else {
      multiply<T, Store::Plain>(single, left, right, bias, d, k, depth, from, to, space);
    }
  }
}

}  // namespace

void fill_matmul(Table& t) {
  t.matmul_f32 = {scratch_bytes<float>, parts<float>, grain<float>, matmul<float>};
  t.matmul_b16 = {scratch_bytes<bf16>, parts<bf16>, grain<bf16>, matmul<bf16>};
}

}  // namespace orch::kernels::ORCH_ISA
