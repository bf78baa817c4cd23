// Mathematical functions of the kernels, on vectors: 2^x, exp, log, sine and cosine, sigmoid.
#pragma once
#include "simd.h"

namespace orch::kernels::ORCH_ISA {

/// The polynomial in x with these coefficients, of the highest power first, by Horner's rule.
template <class... C>
ORCH_INLINE vf polynomial(vf x, float first, C... others) {
  vf p = splat(first);
  ((p = p * x + splat(others)), ...);
  return p;
}

/// 2^x. `Degree` is that of the polynomial, a minimax fit of the relative error on [-1/2, 1/2], with errors:
/// 3 (7.5e-5), 5 (7.5e-8 before rounding), 6 (1.9e-9). The result is 0 or denormal below 2^-126,
/// and large or infinite above 2^127; for infinite x it is unspecified. NaN stays NaN.
template <int Degree = 6>
ORCH_INLINE vf exp2_of(vf x) {
#if defined(ORCH_AVX512)
  const vf whole = (vf)_mm512_roundscale_ps((__m512)x, 0);
#else
  const vf magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  x = max_of(splat(-127.0f), min_of(splat(127.0f), x));
  const vf shifted = x + magic;
  const vf whole = shifted - magic;
#endif
  const vf f = x - whole;
  vf p;
  if constexpr (Degree == 3) {
    p = polynomial(f, 0.05517166f, 0.24261113f, 0.69326097f, 0.99992806f);
  } else if constexpr (Degree == 5) {
    p = polynomial(f, 0.0013276471f, 0.009675541f, 0.05550713f, 0.2402212f, 0.69314694f, 1.0000001f);
  } else {
    p = polynomial(f, 0.00015345811f, 0.0013399931f, 0.009618489f, 0.055503286f, 0.24022646f, 0.6931472f,
                   1.0f);
  }
#if defined(ORCH_AVX512)
  return (vf)_mm512_scalef_ps((__m512)p, (__m512)whole);
#else
  // 2^n through its exponent field; n = -127 gives the factor 0.
  const vu n = bits_of(shifted) - bits_of(magic) + 127u;
  return p * (vf)(n << 23);
#endif
}
ORCH_INLINE vf exp_of(vf x) {
  // The rounding error of the product is recovered, so that the result stays accurate for large |x|.
  const vf log2e = splat(1.44269504f), log2e_low = splat(1.925963033e-8f);
  x = max_of(splat(-88.0f), min_of(splat(88.0f), x));
  const vf y = x * log2e;
#if defined(ORCH_AVX512)
  const vf error = (vf)_mm512_fmsub_ps((__m512)x, (__m512)log2e, (__m512)y);
#elif defined(ORCH_AVX2)
  const vf error = (vf)_mm256_fmsub_ps((__m256)x, (__m256)log2e, (__m256)y);
#elif defined(__aarch64__) && ORCH_LANES == 4
  const vf error = (vf)vfmaq_f32((float32x4_t)-y, (float32x4_t)x, (float32x4_t)log2e);
#else
  const vf error = {};
#endif
  const vf e = error + x * log2e_low;
  const vf p = exp2_of(y);
  return p + p * (e * splat(0.69314718f));
}
/// Natural logarithm of normal positive numbers (unspecified for others), from log m = 2 artanh((m - 1) / (m
/// + 1)).
ORCH_INLINE vf log_of(vf x) {
  const vu u = bits_of(x) - 0x3f3504f3u;  // mantissa in [sqrt(1/2), sqrt(2))
  const vi e = (vi)u >> 23;
  const vf m = (vf)((u & 0x7fffffu) + 0x3f3504f3u);
  const vf s = (m - splat(1.0f)) / (m + splat(1.0f));
  const vf s2 = s * s;
  const vf p = polynomial(s2, 2.0f / 9, 2.0f / 7, 2.0f / 5, 2.0f / 3);
  const vf ef = __builtin_convertvector(e, vf);
  return ef * splat(0.693147182f) + (s * splat(2.0f) + (s * s2 * p + ef * splat(-1.90465e-9f)));
}
/// Sine and cosine of 2 pi u, 0 <= u <= 1.
ORCH_INLINE void sincos_turns(vf u, vf& sine, vf& cosine) {
  const vf magic = splat(12582912.0f);
  const vf shifted = u * splat(4.0f) + magic;
  const vf r = u - (shifted - magic) * splat(0.25f);
  const vu quadrant = bits_of(shifted) - bits_of(magic);
  const vf a = r * splat(6.28318531f), a2 = a * a;
  const vf s = a + a * a2 * polynomial(a2, 1.0f / 362880, -1.0f / 5040, 1.0f / 120, -1.0f / 6);
  const vf c = polynomial(a2, 1.0f / 40320, -1.0f / 720, 1.0f / 24, -0.5f, 1.0f);
  const vi odd = (vi)(quadrant & 1u) != 0;
  const vf swapped_s = select(odd, c, s), swapped_c = select(odd, s, c);
  sine = (vf)(bits_of(swapped_s) ^ ((quadrant & 2u) << 30));
  cosine = (vf)(bits_of(swapped_c) ^ (((quadrant + 1u) & 2u) << 30));
}
/// 1 / (1 + 2^y), to the precision of the storage type T.
template <class T>
ORCH_INLINE vf inverse_one_plus_exp2(vf y) {
#if defined(ORCH_AVX512)
  if constexpr (is_bf16<T>) return (vf)_mm512_rcp14_ps((__m512)(splat(1.0f) + exp2_of<3>(y)));
#endif
  return splat(1.0f) / (splat(1.0f) + exp2_of < is_bf16<T> ? 3 : 6 > (y));
}
/// 1 / (1 + exp(-x))
template <class T>
ORCH_INLINE vf sigmoid_of(vf x) {
  if constexpr (is_bf16<T>) return inverse_one_plus_exp2<T>(x * splat(-1.44269504f));
  return splat(1.0f) / (splat(1.0f) + exp_of(-x));
}

}  // namespace orch::kernels::ORCH_ISA
