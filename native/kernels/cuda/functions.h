// The mathematical functions of the kernels in single precision. exp, log, sine and cosine are this project's
// own, so that their bits depend neither on CUDA's version nor on the C library under the emulated GPU. (2^x
// and quotients to bf16 precision use the processor's instructions.)
#pragma once
#include "../../core/rounded.h"
#include "gpu.h"

namespace orch::kernels::cuda {

using Single = Rounded<float>;

/// The polynomial in x with these coefficients, of the highest power first, by Horner's rule.
template <class... C>
GPU_INLINE Single polynomial(Single x, float first, C... others) {
  Single p = first;
  ((p = p * x + others), ...);
  return p;
}

/// exp(r) 2^n for |r| <= 0.35, where n = `shifted` - kShift: adding kShift rounds to an integer.
constexpr float kShift = 12582912.0f;
GPU_INLINE float scaled_exp(Single r, Single shifted) {
  const Single taylor = polynomial(r, 1.0f / 5040, 1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f),
               p = r * r * taylor + r + 1.0f;
  // 2^n itself may overflow or underflow.
  const int n = static_cast<int>(as_bits(shifted.value) - as_bits(kShift)), half = n / 2;
  const auto power = [](int k) { return Single(as_float(static_cast<uint32_t>(k + 127) << 23)); };
  return (p * power(half) * power(n - half)).value;
}
/// exp(x), to about one unit in the last place. NaN stays NaN.
GPU_INLINE float exp_of(float x) {
  x = x > 89.0f ? 89.0f : x < -104.0f ? -104.0f : x;
  const Single shifted = Single(x) * 1.44269504f + kShift, whole = shifted - kShift;
  // ln 2 in two parts; the product with the first is exact.
  return scaled_exp(Single(x) - whole * 0x1.62e4p-1f - whole * 0x1.7f7d1cp-20f, shifted);
}
GPU_INLINE float exp2_of(float x) {
  x = x > 128.0f ? 128.0f : x < -150.0f ? -150.0f : x;
  const Single shifted = Single(x) + kShift;
  return scaled_exp((Single(x) - (shifted - kShift)) * 0.693147181f, shifted);
}
/// Natural logarithm of normal numbers, as in kernels/cpu/functions.h; infinity and NaN stay as they are.
GPU_INLINE float log_of(float x) {
  if (!(x < INFINITY)) return x;
  const uint32_t u = as_bits(x) - 0x3f3504f3u;  // mantissa in [sqrt(1/2), sqrt(2))
  const Single e = static_cast<float>(static_cast<int32_t>(u) >> 23),
               m = as_float((u & 0x7fffffu) + 0x3f3504f3u);
  const Single s = (m - 1.0f) / (m + 1.0f), s2 = s * s;
  const Single p = polynomial(s2, 2.0f / 9, 2.0f / 7, 2.0f / 5, 2.0f / 3);
  return (e * 0.693147182f + (s * 2.0f + (s * s2 * p + e * -1.90465e-9f))).value;
}
/// Sine and cosine of 2 pi u, 0 <= u <= 1, as in kernels/cpu/functions.h.
GPU_INLINE void sincos_turns(Single u, Single& sine, Single& cosine) {
  const Single shifted = u * 4.0f + kShift, r = u - (shifted - kShift) * 0.25f;
  const uint32_t quadrant = as_bits(shifted.value) - as_bits(kShift);
  const Single a = r * 6.28318531f, a2 = a * a;
  const Single s = a + a * a2 * polynomial(a2, 1.0f / 362880, -1.0f / 5040, 1.0f / 120, -1.0f / 6),
               c = polynomial(a2, 1.0f / 40320, -1.0f / 720, 1.0f / 24, -0.5f, 1.0f);
  sine = quadrant & 1 ? c : s;
  cosine = quadrant & 1 ? s : c;
  if (quadrant & 2) sine = -sine;
  if ((quadrant + 1) & 2) cosine = -cosine;
}

/// 2^x, to about 2 units in the last place.
GPU_INLINE float fast_exp2(float x) {
#if defined(__CUDACC__)
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return exp2_of(x);
#endif
}
/// exp and quotients: to fp32 precision for T = float; to a few units in the last place of fp32 for bf16,
/// whose rounding hides the difference.
template <class T>
struct Math {
  static GPU_INLINE float exponential(float x) {
    if constexpr (std::is_same_v<T, float>)
      return exp_of(x);
    else
      return fast_exp2(x * 1.44269504f);
  }
  static GPU_INLINE float divide(float a, float b) {
#if defined(__CUDACC__)
    if constexpr (!std::is_same_v<T, float>) return __fdividef(a, b);
#endif
    return a / b;
  }
  static GPU_INLINE float sigmoid(float x) { return divide(1.0f, 1.0f + exponential(-x)); }
};

// GELU, tanh approximation: x/2 (1 + tanh(u)) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3).
constexpr float kTwoU = 1.59576912f, kTwoUCubic = 1.59576912f * 0.044715f;
template <class T>
GPU_INLINE float gelu_of(float x) {
  return x * Math<T>::sigmoid(x * (kTwoU + kTwoUCubic * x * x));
}

}  // namespace orch::kernels::cuda
