// A small vector layer: fp32 vectors of the largest width of the instruction set, and the operations on them
// that the kernels need.
//
// Every source in cpu/ is compiled once per instruction set, into a namespace of its own. All inline
// functions here are static and in that namespace, so that the linker cannot use the copy of one instruction
// set for another. For the same reason the kernels use no inline function or template from elsewhere (std::
// included).
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// The build may set the number of lanes: the tests compile the code for 16 lanes, and for pairs of bf16
// (ORCH_EMULATED_PAIRS), on processors that have AVX2 only. The compiler then splits vectors that are wider
// than the registers.
#if !defined(ORCH_LANES)
#if defined(__AVX512F__)
#define ORCH_LANES 16
#elif defined(__AVX2__)
#define ORCH_LANES 8
#else
#define ORCH_LANES 4
#endif
#endif

// The intrinsics that fit these vectors.
#if defined(__AVX512F__) && ORCH_LANES == 16
#define ORCH_AVX512 1
#elif defined(__AVX2__) && ORCH_LANES == 8
#define ORCH_AVX2 1
#elif defined(__SSE2__) && ORCH_LANES == 4
#define ORCH_SSE 1
#endif

// Whether the processor multiplies pairs of bf16 numbers (vdpbf16ps, BFDOT).
#if defined(__AVX512BF16__) || defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC) || defined(ORCH_EMULATED_PAIRS)
#define ORCH_PAIRS 1
#endif

#define ORCH_INLINE static inline __attribute__((always_inline))

namespace orch::kernels::ORCH_ISA {

constexpr int kLanes = ORCH_LANES;

typedef float vf __attribute__((vector_size(4 * ORCH_LANES)));
typedef int32_t vi __attribute__((vector_size(4 * ORCH_LANES)));
typedef uint32_t vu __attribute__((vector_size(4 * ORCH_LANES)));
typedef uint16_t vh __attribute__((vector_size(2 * ORCH_LANES)));
typedef double vd __attribute__((vector_size(4 * ORCH_LANES)));
typedef float vf_half __attribute__((vector_size(2 * ORCH_LANES)));
typedef vf vf_unaligned __attribute__((aligned(4), may_alias));
typedef vh vh_unaligned __attribute__((aligned(2), may_alias));

template <class T>
constexpr bool is_bf16 = false;
template <>
inline constexpr bool is_bf16<bf16> = true;

// --- scalars
ORCH_INLINE int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
ORCH_INLINE int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
ORCH_INLINE float widen(float x) { return x; }
ORCH_INLINE float widen(bf16 x) {
  uint32_t u = static_cast<uint32_t>(x.bits) << 16;
  float f;
  std::memcpy(&f, &u, 4);
  return f;
}

// --- vectors
ORCH_INLINE vf splat(float x) { return x - vf{}; }
ORCH_INLINE vi splat_i(int32_t x) { return x - vi{}; }
ORCH_INLINE vu bits_of(vf x) { return (vu)x; }
ORCH_INLINE vf select(vi mask, vf a, vf b) { return mask ? a : b; }
ORCH_INLINE vf abs_of(vf x) { return (vf)(bits_of(x) & (0x7fffffffu - vu{})); }

/// a if a > b, else b (also b if either is NaN).
ORCH_INLINE vf max_of(vf a, vf b) {
#if defined(ORCH_AVX512)
  return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(ORCH_AVX2)
  return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return a > b ? a : b;
#endif
}
/// a if a < b, else b (also b if either is NaN).
ORCH_INLINE vf min_of(vf a, vf b) {
#if defined(ORCH_AVX512)
  return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(ORCH_AVX2)
  return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
  return a < b ? a : b;
#endif
}
ORCH_INLINE vf sqrt_of(vf x) {
#if defined(ORCH_AVX512)
  return (vf)_mm512_sqrt_ps((__m512)x);
#elif defined(ORCH_AVX2)
  return (vf)_mm256_sqrt_ps((__m256)x);
#elif defined(ORCH_SSE)
  return (vf)_mm_sqrt_ps((__m128)x);
#else
  vf y;
  for (int i = 0; i < kLanes; ++i) y[i] = __builtin_sqrtf(x[i]);
  return y;
#endif
}

/// The sum of the lanes, as a balanced tree: lanes i and i + half are added, then halves again.
ORCH_INLINE float sum_lanes(vf x) {
#if ORCH_LANES == 16
  typedef float v8 __attribute__((vector_size(32)));
  const v8 y = __builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7) +
               __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15);
#elif ORCH_LANES == 8
  const vf y = x;
#endif
  typedef float v4 __attribute__((vector_size(16)));
#if ORCH_LANES >= 8
  const v4 z = __builtin_shufflevector(y, y, 0, 1, 2, 3) + __builtin_shufflevector(y, y, 4, 5, 6, 7);
#else
  const v4 z = x;
#endif
  return (z[0] + z[2]) + (z[1] + z[3]);
}
/// The same sum in every lane.
ORCH_INLINE vf spread_sum(vf x) {
#if ORCH_LANES == 16
  x += __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
  x += __builtin_shufflevector(x, x, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
  x += __builtin_shufflevector(x, x, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  return x + __builtin_shufflevector(x, x, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
#else
  return splat(sum_lanes(x));
#endif
}
/// 1 / sqrt(x) for normal positive x.
ORCH_INLINE vf inverse_sqrt(vf x) {
#if defined(ORCH_AVX512)
  const vf r = (vf)_mm512_rsqrt14_ps((__m512)x);
  const vf e = splat(1.0f) - x * r * r;  // Newton's step and half of the next term
  return r + r * e * (splat(0.5f) + splat(0.375f) * e);
#else
  return splat(1.0f) / sqrt_of(x);
#endif
}
/// The largest lane, in every lane.
ORCH_INLINE vf spread_max(vf x) {
#if ORCH_LANES == 16
  x = max_of(x, __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
  x = max_of(x, __builtin_shufflevector(x, x, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11));
  x = max_of(x, __builtin_shufflevector(x, x, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13));
  return max_of(x, __builtin_shufflevector(x, x, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14));
#elif ORCH_LANES == 8
  x = max_of(x, __builtin_shufflevector(x, x, 4, 5, 6, 7, 0, 1, 2, 3));
  x = max_of(x, __builtin_shufflevector(x, x, 2, 3, 0, 1, 6, 7, 4, 5));
  return max_of(x, __builtin_shufflevector(x, x, 1, 0, 3, 2, 5, 4, 7, 6));
#else
  x = max_of(x, __builtin_shufflevector(x, x, 2, 3, 0, 1));
  return max_of(x, __builtin_shufflevector(x, x, 1, 0, 3, 2));
#endif
}
/// All ones in lanes below n.
ORCH_INLINE vi first_lanes(int64_t n) {
  vi lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  return lane < splat_i(static_cast<int32_t>(n));
}
/// Transposes a kLanes x kLanes matrix of 32-bit values.
ORCH_INLINE void transpose(vu (&x)[kLanes]) {
#if defined(ORCH_AVX512)
  vu t[16];
  for (int i = 0; i < 16; i += 2) {  // 2 x 2
    t[i] = (vu)_mm512_unpacklo_epi32((__m512i)x[i], (__m512i)x[i + 1]);
    t[i + 1] = (vu)_mm512_unpackhi_epi32((__m512i)x[i], (__m512i)x[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {  // 4 x 4 within each quarter
    for (int j = 0; j < 2; ++j) {
      x[i + 2 * j] = (vu)_mm512_unpacklo_epi64((__m512i)t[i + j], (__m512i)t[i + j + 2]);
      x[i + 2 * j + 1] = (vu)_mm512_unpackhi_epi64((__m512i)t[i + j], (__m512i)t[i + j + 2]);
    }
  }
  for (int i = 0; i < 4; ++i) {  // quarters
    const __m512i a = (__m512i)x[i], b = (__m512i)x[i + 4], c = (__m512i)x[i + 8], d = (__m512i)x[i + 12];
    const __m512i ab0 = _mm512_shuffle_i32x4(a, b, 0x88), ab1 = _mm512_shuffle_i32x4(a, b, 0xdd);
    const __m512i cd0 = _mm512_shuffle_i32x4(c, d, 0x88), cd1 = _mm512_shuffle_i32x4(c, d, 0xdd);
    t[i] = (vu)_mm512_shuffle_i32x4(ab0, cd0, 0x88);
    t[i + 8] = (vu)_mm512_shuffle_i32x4(ab0, cd0, 0xdd);
    t[i + 4] = (vu)_mm512_shuffle_i32x4(ab1, cd1, 0x88);
    t[i + 12] = (vu)_mm512_shuffle_i32x4(ab1, cd1, 0xdd);
  }
  for (int i = 0; i < 16; ++i) x[i] = t[i];
#elif ORCH_LANES == 8
  vu t[8];
  for (int i = 0; i < 8; i += 2) {  // 2 x 2
    t[i] = __builtin_shufflevector(x[i], x[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    t[i + 1] = __builtin_shufflevector(x[i], x[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int i = 0; i < 8; i += 4) {  // 4 x 4 within each half
    for (int j = 0; j < 2; ++j) {
      x[i + 2 * j] = __builtin_shufflevector(t[i + j], t[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      x[i + 2 * j + 1] = __builtin_shufflevector(t[i + j], t[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  }
  for (int i = 0; i < 4; ++i) {  // halves
    const vu a = x[i], b = x[i + 4];
    x[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11);
    x[i + 4] = __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
  }
#elif ORCH_LANES == 4
  const vu a = __builtin_shufflevector(x[0], x[1], 0, 4, 1, 5),
           b = __builtin_shufflevector(x[0], x[1], 2, 6, 3, 7),
           c = __builtin_shufflevector(x[2], x[3], 0, 4, 1, 5),
           d = __builtin_shufflevector(x[2], x[3], 2, 6, 3, 7);
  x[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
  x[1] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
  x[2] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
  x[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
#else
  uint32_t from[kLanes][kLanes], to[kLanes][kLanes];
  std::memcpy(from, x, sizeof from);
  for (int i = 0; i < kLanes; ++i)
    for (int j = 0; j < kLanes; ++j) to[i][j] = from[j][i];
  std::memcpy(x, to, sizeof to);
#endif
}
ORCH_INLINE vd low_doubles(vf x) {
  vf_half h;
  std::memcpy(&h, &x, sizeof h);
  return __builtin_convertvector(h, vd);
}
ORCH_INLINE vd high_doubles(vf x) {
  vf_half h;
  std::memcpy(&h, reinterpret_cast<const char*>(&x) + sizeof h, sizeof h);
  return __builtin_convertvector(h, vd);
}
ORCH_INLINE double sum_lanes(vd x) {
  double s = 0;
  for (int i = 0; i < kLanes / 2; ++i) s += x[i];
  return s;
}

// --- memory
//
// gcc 12 compiles __builtin_convertvector between 16 and 32 bits to several instructions; the intrinsics are
// one.
ORCH_INLINE vu widen_integers(vh h) {
#if defined(ORCH_AVX512)
  return (vu)_mm512_cvtepu16_epi32((__m256i)h);
#elif defined(ORCH_AVX2)
  return (vu)_mm256_cvtepu16_epi32((__m128i)h);
#else
  return __builtin_convertvector(h, vu);
#endif
}
/// The lower half of every lane.
ORCH_INLINE vh narrow_integers(vu x) {
#if defined(ORCH_AVX512)
  return (vh)_mm512_cvtepi32_epi16((__m512i)x);
#else
  return __builtin_convertvector(x, vh);
#endif
}
ORCH_INLINE vf widen_bits(vh h) { return (vf)(widen_integers(h) << 16); }
/// Half to single precision: a multiplication rebiases the exponent, which also normalises denormals.
ORCH_INLINE vf widen_half(vh h) {
  const vu u = widen_integers(h);
  const vf magnitude = (vf)((u & 0x7fffu) << 13) * splat(0x1p112f);
  const vu special = (u & 0x7c00u) == 0x7c00u ? (vu)(((u & 0x3ffu) << 13) | 0x7f800000u) : bits_of(magnitude);
  return (vf)(special | ((u & 0x8000u) << 16));
}
/// Rounds to nearest even; NaN stays NaN.
ORCH_INLINE vh narrow_bits_exact(vf x) {
  const vu u = bits_of(x);
  const vu rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const vu nan = (u >> 16) | 0x40u;
  return narrow_integers((u & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}
/// Like narrow_bits_exact, except that the hardware conversion flushes denormals to zero.
ORCH_INLINE vh narrow_bits(vf x) {
#if defined(__AVX512BF16__)
  return (vh)_mm512_cvtneps_pbh((__m512)x);
#else
  return narrow_bits_exact(x);
#endif
}

ORCH_INLINE vf load(const float* p) { return *reinterpret_cast<const vf_unaligned*>(p); }
ORCH_INLINE vf load(const bf16* p) { return widen_bits(*reinterpret_cast<const vh_unaligned*>(p)); }
ORCH_INLINE vf load(const f16* p) { return widen_half(*reinterpret_cast<const vh_unaligned*>(p)); }
ORCH_INLINE void store(float* p, vf x) { *reinterpret_cast<vf_unaligned*>(p) = x; }
ORCH_INLINE void store(bf16* p, vf x) { *reinterpret_cast<vh_unaligned*>(p) = narrow_bits(x); }
ORCH_INLINE void store_units(uint32_t* p, vu x) { store(reinterpret_cast<float*>(p), (vf)x); }
ORCH_INLINE void store_exact(float* p, vf x) { store(p, x); }
ORCH_INLINE void store_exact(bf16* p, vf x) { *reinterpret_cast<vh_unaligned*>(p) = narrow_bits_exact(x); }

/// Stores two adjacent vectors; bf16 packs them into one store.
template <class T>
ORCH_INLINE void store2(T* p, vf a, vf b) {
#if defined(__AVX512BF16__)
  if constexpr (is_bf16<T>) {
    _mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a));
    return;
  }
#endif
  store(p, a);
  store(p + kLanes, b);
}

/// Non-temporal store (bypasses the caches), to an address that is a multiple of the vector's size.
ORCH_INLINE void store_streaming(float* p, vf x) {
#if defined(ORCH_AVX512)
  _mm512_stream_ps(p, (__m512)x);
#elif defined(ORCH_AVX2)
  _mm256_stream_ps(p, (__m256)x);
#else
  store(p, x);
#endif
}
/// Fence after the last store_streaming, before other threads may read.
ORCH_INLINE void end_streaming() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

/// Tail handling: loads the first n < kLanes elements; the others are zero.
template <class T>
ORCH_INLINE vf load_n(const T* p, int64_t n) {
  T some[kLanes] = {};
  std::memcpy(some, p, static_cast<size_t>(n) * sizeof(T));
  return load(some);
}
template <class T>
ORCH_INLINE void store_n(T* p, vf x, int64_t n) {
  T some[kLanes];
  store(some, x);
  std::memcpy(p, some, static_cast<size_t>(n) * sizeof(T));
}
template <class T>
ORCH_INLINE void store_exact_n(T* p, vf x, int64_t n) {
  T some[kLanes];
  store_exact(some, x);
  std::memcpy(p, some, static_cast<size_t>(n) * sizeof(T));
}

// --- loops over arrays

/// Where a loop is, at a whole vector or at the last n < kLanes elements: at(p) loads the elements of an
/// array there, at.put(p, x) stores them.
template <bool Whole>
struct Place {
  int64_t i, n = kLanes;
  template <class T>
  inline __attribute__((always_inline)) vf operator()(const T* p) const {
    return Whole ? load(p + i) : load_n(p + i, n);
  }
  template <class T>
  inline __attribute__((always_inline)) void put(T* p, vf x) const {
    Whole ? store(p + i, x) : store_n(p + i, x, n);
  }
  template <class T>
  inline __attribute__((always_inline)) void put_exact(T* p, vf x) const {
    Whole ? store_exact(p + i, x) : store_exact_n(p + i, x, n);
  }
};
/// Calls f(at) for n elements, vector by vector. (flatten: f is inlined.)
template <class F>
static __attribute__((flatten)) void each_vector(int64_t n, F f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) f(Place<true>{i});
  if (i < n) f(Place<false>{i, n - i});
}
/// Stores f(at) in the n elements of y, two vectors at a time.
template <class T, class F>
static __attribute__((flatten)) void map(T* y, int64_t n, F f) {
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) store2(y + i, f(Place<true>{i}), f(Place<true>{i + kLanes}));
  for (; i + kLanes <= n; i += kLanes) store(y + i, f(Place<true>{i}));
  if (i < n) store_n(y + i, f(Place<false>{i, n - i}), n - i);
}

}  // namespace orch::kernels::ORCH_ISA
