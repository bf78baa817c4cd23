// What the forward and backward pass of attention share: packing of operands, and scratch memory.
#pragma once
#include "families.h"
#include "gemm.h"

namespace orch::kernels::ORCH_ISA {

constexpr float kScale = 0.125f;  // 1 / sqrt(64)
constexpr float kScaleLog2e = 0.125f * 1.44269504f;
constexpr int64_t kRows = 72;  // query rows per block; even
constexpr int64_t kHeadVectors = kHeadDim / kLanes;

/// Packing of [n, 64] operands into units; row stride ldx.
///   rows: as an A operand, summed over channels; returns where the units are (possibly x itself).
///   summed_rows: as a B operand, summed over rows; likewise.
///   transposed: contiguous rows into panels, as a B operand summed over channels. Columns past n are zero
///   up to a whole vector.
template <class T, class Op>
struct Pack;

template <class T>
struct Pack<T, SingleOp> {
  static constexpr int64_t kWidth = kHeadDim;  ///< units of a row of 64 channels

  ORCH_INLINE const float* rows(float* to, const T* x, int64_t ldx, int64_t n) {
    if constexpr (!is_bf16<T>) {
      if (ldx == kHeadDim) return x;
    }
    for (int64_t r = 0; r < n; ++r) {
      for (int64_t i = 0; i < kHeadDim; i += kLanes) store(to + r * kHeadDim + i, load(x + r * ldx + i));
    }
    return to;
  }
  ORCH_INLINE const float* summed_rows(float* to, const T* x, int64_t ldx, int64_t n) {
    return rows(to, x, ldx, n);
  }
  ORCH_INLINE void transposed(float* to, const T* x, int64_t n) {
    transpose_panels(reinterpret_cast<uint32_t*>(to), n, kWidth,
                     [=](int64_t row, int64_t unit) { return bits_of(load(x + row * kHeadDim + unit)); });
  }
};

#if defined(ORCH_PAIRS)
template <>
struct Pack<bf16, PairOp> {
  static constexpr int64_t kWidth = kHeadDim / 2;

  ORCH_INLINE const uint32_t* rows(uint32_t* to, const bf16* x, int64_t ldx, int64_t n) {
    if (ldx == kHeadDim) return reinterpret_cast<const uint32_t*>(x);
    for (int64_t r = 0; r < n; ++r) std::memcpy(to + r * kWidth, x + r * ldx, 2 * kHeadDim);
    return to;
  }
  ORCH_INLINE const uint32_t* summed_rows(uint32_t* to, const bf16* x, int64_t ldx, int64_t n) {
    const bf16 zeros[kHeadDim] = {};
    for (int64_t r = 0; r < n; r += 2) {
      const bf16 *first = x + r * ldx, *second = r + 1 < n ? first + ldx : zeros;
      for (int64_t i = 0; i < kHeadDim; i += kLanes)
        store_units(to + r / 2 * kHeadDim + i, pair_rows(first + i, second + i));
    }
    return to;
  }
  ORCH_INLINE void transposed(uint32_t* to, const bf16* x, int64_t n) {
    transpose_panels(to, n, kWidth, [=](int64_t row, int64_t unit) {
      return bits_of(load(reinterpret_cast<const float*>(x + row * kHeadDim + 2 * unit)));
    });
  }
};
#endif

/// Divides the caller's scratch into 64-byte aligned pieces; with a null base it only counts bytes.
struct Scratch {
  char* base;
  size_t used = 0;
  template <class U>
  inline __attribute__((always_inline)) U* take(int64_t count) {
    U* p = base ? reinterpret_cast<U*>(base + used) : nullptr;
    used += static_cast<size_t>(round_up(count * static_cast<int64_t>(sizeof(U)), 64));
    return p;
  }
};

/// Sizes derived from the number of tokens S.
struct Sizes {
  int64_t vectors;  ///< per row of logits
  int64_t columns;  ///< vectors * kLanes
  int64_t panels;   ///< columns rounded up to whole panels
};
ORCH_INLINE Sizes sizes_of(int64_t tokens) {
  const int64_t vectors = (tokens + kLanes - 1) / kLanes;
  return {vectors, vectors * kLanes, round_up(tokens, kPanel)};
}

/// Prefetches the rows of the next head while the current one is computed: with few tokens the rows are too
/// short for the hardware prefetcher.
constexpr int64_t kFetched = 64;  ///< tokens
template <class T>
ORCH_INLINE void fetch_head(const T* x, const AttentionDims& d, int64_t bh) {
  if (d.tokens > kFetched || bh >= d.to) return;
  const char* at = reinterpret_cast<const char*>(x + bh * d.tokens * kHeadDim);
  for (int64_t i = 0; i < d.tokens * kHeadDim * static_cast<int64_t>(sizeof(T)); i += 64)
    __builtin_prefetch(at + i);
}

/// Scratch bytes of the backward pass.
size_t backward_scratch_single(int64_t tokens);
size_t backward_scratch_half(int64_t tokens);

}  // namespace orch::kernels::ORCH_ISA
