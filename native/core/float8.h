// The 8-bit floating-point formats of the OCP 8-bit Floating Point Specification (OFP8), revision 1.0: E4M3,
// which has no infinities, for weights and activations, and E5M2, of a wider range, for gradients.
#pragma once
#include <cstdint>

#include "anywhere.h"
#include "dtype.h"

namespace orch {

/// A format with `kMantissa` bits of mantissa and this bias of the exponent. The largest finite number is
/// 1.75 * 2^kTopExponent in both.
struct E4M3 {
  static constexpr DType kType = DType::E4M3;
  static constexpr int kMantissa = 3, kBias = 7, kTopExponent = 8;  // 448
};
struct E5M2 {
  static constexpr DType kType = DType::E5M2;
  static constexpr int kMantissa = 2, kBias = 15, kTopExponent = 15;  // 57344
};

namespace float8 {

constexpr uint8_t kNan = 0x7f;  ///< in both formats

ORCH_ANYWHERE uint32_t bits_of(float f) {
  uint32_t u;
  __builtin_memcpy(&u, &f, 4);
  return u;
}
ORCH_ANYWHERE float float_of(uint32_t u) {
  float f;
  __builtin_memcpy(&f, &u, 4);
  return f;
}
/// 2^k for a normal result.
ORCH_ANYWHERE constexpr uint32_t power_bits(int k) { return static_cast<uint32_t>(k + 127) << 23; }

/// Rounds to nearest even. What is above the largest finite number becomes that number; NaN stays NaN.
template <class Format>
ORCH_ANYWHERE uint8_t from_float(float x) {
  constexpr int kMantissa = Format::kMantissa, kDropped = 23 - kMantissa;
  constexpr uint32_t kTop = power_bits(Format::kTopExponent) + (3u << 21);
  constexpr uint8_t kTopCode = ((Format::kTopExponent + Format::kBias) << kMantissa) + (3 << (kMantissa - 2));
  constexpr uint32_t kLeastNormal = power_bits(1 - Format::kBias);
  const uint32_t all = bits_of(x), u = all & 0x7fffffffu;
  const uint8_t sign = (all >> 24) & 0x80;
  if (u > 0x7f800000u) return kNan;
  if (u >= kTop) return sign | kTopCode;
  if (u >= kLeastNormal) {
    const uint32_t rounded = u + (1u << (kDropped - 1)) - 1 + (u >> kDropped & 1);
    return sign | static_cast<uint8_t>((rounded >> kDropped) -
                                       (static_cast<uint32_t>(127 - Format::kBias) << kMantissa));
  }
  // Subnormal: the sum with 2^23 units of the last place rounds to a whole number of them.
  constexpr uint32_t kUnits = power_bits(23 + 1 - Format::kBias - kMantissa);
  return sign | static_cast<uint8_t>(bits_of(float_of(u) + float_of(kUnits)) - kUnits);
}

template <class Format>
ORCH_ANYWHERE float to_float(uint8_t code) {
  const int exponent = (code & 0x7f) >> Format::kMantissa, mantissa = code & ((1 << Format::kMantissa) - 1);
  constexpr bool kInfinities = Format::kBias == 15;
  if (kInfinities ? exponent == 31 && mantissa != 0 : (code & 0x7f) == kNan) return float_of(0x7fc00000u);
  if (kInfinities && exponent == 31) return float_of(0x7f800000u | static_cast<uint32_t>(code & 0x80) << 24);
  const float units = static_cast<float>(exponent ? mantissa + (1 << Format::kMantissa) : mantissa);
  const float unit = float_of(power_bits((exponent ? exponent : 1) - Format::kBias - Format::kMantissa));
  return code & 0x80 ? -units * unit : units * unit;
}

/// The scale of a tensor, and its inverse.
struct Scale {
  float factor, inverse;
};
/// The largest power of two with which no magnitude exceeds the format's largest finite number; so scaling
/// changes no mantissa. A tensor that has a number that is not finite gets NaN, and so does what is computed
/// from it. `amax`: bits of the tensor's largest magnitude as a float, where NaN is the largest.
template <class Format>
ORCH_ANYWHERE Scale scale_for(uint32_t amax) {
  if (amax >= 0x7f800000u) return {float_of(0x7fc00000u), float_of(0x7fc00000u)};
  const int exponent = static_cast<int>(amax >> 23) - 127;
  int k = Format::kTopExponent - exponent - ((amax & 0x7fffffu) > 0x600000u ? 1 : 0);
  k = k > 126 ? 126 : k;  // so that the inverse is a normal number
  return {float_of(power_bits(k)), float_of(power_bits(-k))};
}

}  // namespace float8
}  // namespace orch
