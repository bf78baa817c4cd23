// Element types of tensors.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace orch {

/// E4M3 and E5M2 are the formats of float8.h.
enum class DType : uint8_t { F32, BF16, F16, E4M3, E5M2 };

inline bool is_float8(DType t) { return t == DType::E4M3 || t == DType::E5M2; }
inline size_t size_of(DType t) { return t == DType::F32 ? 4 : is_float8(t) ? 1 : 2; }
inline const char* name_of(DType t) {
  constexpr const char* kNames[] = {"F32", "BF16", "F16", "E4M3", "E5M2"};
  return kNames[static_cast<size_t>(t)];
}

/// bfloat16: the upper half of an IEEE binary32. A storage type; arithmetic happens in fp32.
struct bf16 {
  uint16_t bits;
};
/// IEEE binary16. A storage type (data sets and released checkpoints).
struct f16 {
  uint16_t bits;
};

inline float to_float(float x) { return x; }
inline float to_float(bf16 x) {
  uint32_t u = static_cast<uint32_t>(x.bits) << 16;
  float f;
  std::memcpy(&f, &u, 4);
  return f;
}
/// Round to nearest even; NaN stays NaN (quieted).
inline bf16 to_bf16(float f) {
  uint32_t u;
  std::memcpy(&u, &f, 4);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((u >> 16) | 0x40)};
  u += 0x7fffu + ((u >> 16) & 1u);
  return {static_cast<uint16_t>(u >> 16)};
}

template <class T>
struct dtype_of;
template <>
struct dtype_of<float> {
  static constexpr DType value = DType::F32;
};
template <>
struct dtype_of<bf16> {
  static constexpr DType value = DType::BF16;
};

}  // namespace orch
