// The largest magnitude of bf16 numbers, from which the scale of a tensor of 8-bit floats follows
// (quantize.cu). Kernels that write such a tensor find it on the way (kernels.h: Amax).
#pragma once
#include "gpu.h"

namespace orch::kernels::cuda {

/// The maxima of the lower and of the upper halves of two words.
GPU_INLINE uint32_t max_halves(uint32_t a, uint32_t b) {
#if defined(__CUDACC__)
  return __vmaxu2(a, b);
#else
  const uint32_t low = (a & 0xffffu) > (b & 0xffffu) ? a : b, high = a > b ? a : b;
  return (low & 0xffffu) | (high & 0xffff0000u);
#endif
}

/// The same of signed halves: of bf16 numbers, the larger one, if one of them is not negative.
GPU_INLINE uint32_t max_signed_halves(uint32_t a, uint32_t b) {
#if defined(__CUDACC__)
  return __vmaxs2(a, b);
#else
  return max_halves(a ^ 0x80008000u, b ^ 0x80008000u) ^ 0x80008000u;
#endif
}
/// The larger half of a word, which has no signs, as bits of a float.
GPU_INLINE uint32_t larger_half(uint32_t halves) {
  const uint32_t low = halves << 16, high = halves & 0xffff0000u;
  return low > high ? low : high;
}

/// The largest magnitude that a thread has seen. Without the sign, bits of numbers have the order of the
/// numbers, and those of NaN are the largest. Numbers of another type than bf16 are not looked at.
struct Largest {
  uint32_t halves = 0;  ///< of the elements in the lower and the upper halves of words
  template <class T>
  GPU_INLINE void see(const Pack<T>& pack) {
    if constexpr (std::is_same_v<T, bf16>)
      for (const uint32_t word : {pack.v.x, pack.v.y, pack.v.z, pack.v.w})
        halves = max_halves(halves, word & 0x7fff7fffu);
  }
  template <class T>
  GPU_INLINE void see(T x) {
    if constexpr (std::is_same_v<T, bf16>) halves = max_halves(halves, x.bits & 0x7fffu);
  }
  /// As bits of a float.
  GPU_INLINE uint32_t bits() const { return larger_half(halves); }
};

constexpr size_t kAmaxBytes = sizeof(uint32_t) * kWarp;  ///< shared memory for raise_amax()

/// Raises *amax to the largest magnitude that the threads of the block, which all take part, have seen. The
/// result does not depend on the order of blocks.
GPU_INLINE void raise_amax(uint32_t* amax, const Largest& mine, void* shared) {
  uint32_t* const of_warps = static_cast<uint32_t*>(shared);
  const unsigned warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, warps = blockDim.x / kWarp;
  const uint32_t of_warp = max_lanes(mine.bits());
  if (lane == 0) of_warps[warp] = of_warp;
  __syncthreads();
  if (warp > 0) return;
  const uint32_t of_block = max_lanes(lane < warps ? of_warps[lane] : 0u);
  if (lane == 0) atomic_max(amax, of_block);
}

}  // namespace orch::kernels::cuda
