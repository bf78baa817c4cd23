// Activation functions, sums, conversions of storage types, and the sinusoidal timestep embedding.
#include "families.h"

namespace orch::kernels::ORCH_ISA {
namespace {

// GELU, tanh approximation: x/2 (1 + tanh(u)) = x sigmoid(2u) = x / (1 + 2^(-2u log2 e)), u = sqrt(2/pi) (x +
// 0.044715 x^3).
constexpr float kTwoU = 1.59576912f, kTwoUCubic = 1.59576912f * 0.044715f;
constexpr float kLog2e = 1.44269504f;

template <class T>
ORCH_INLINE vf gelu_sigmoid(vf x, vf x2) {
  return inverse_one_plus_exp2<T>(x * (splat(-kLog2e * kTwoU) + splat(-kLog2e * kTwoUCubic) * x2));
}
template <class T>
ORCH_INLINE vf gelu_of(vf x) {
  return x * gelu_sigmoid<T>(x, x * x);
}
template <class T>
ORCH_INLINE vf gelu_slope(vf x) {
  const vf x2 = x * x, s = gelu_sigmoid<T>(x, x2);
  return s + x * s * (splat(1.0f) - s) * (splat(kTwoU) + splat(3 * kTwoUCubic) * x2);
}

template <class T>
void gelu(T* y, const T* x, int64_t n) {
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    store2(y + i, gelu_of<T>(load(x + i)), gelu_of<T>(load(x + i + kLanes)));
  }
  for (; i + kLanes <= n; i += kLanes) store(y + i, gelu_of<T>(load(x + i)));
  if (i < n) store_n(y + i, gelu_of<T>(load_n(x + i, n - i)), n - i);
}

template <class T>
void gelu_backward(T* dx, const T* dy, const T* x, int64_t n) {
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    store2(dx + i, load(dy + i) * gelu_slope<T>(load(x + i)),
           load(dy + i + kLanes) * gelu_slope<T>(load(x + i + kLanes)));
  }
  for (; i + kLanes <= n; i += kLanes) store(dx + i, load(dy + i) * gelu_slope<T>(load(x + i)));
  if (i < n) store_n(dx + i, load_n(dy + i, n - i) * gelu_slope<T>(load_n(x + i, n - i)), n - i);
}

template <class T>
void silu(T* y, const float* x, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const vf v = load(x + i);
    store(y + i, v * sigmoid_of<T>(v));
  }
  if (i < n) {
    const vf v = load_n(x + i, n - i);
    store_n(y + i, v * sigmoid_of<T>(v), n - i);
  }
}

ORCH_INLINE vf silu_slope(vf x) {
  const vf s = sigmoid_of<float>(x);
  return s * (splat(1.0f) + x * (splat(1.0f) - s));
}

template <class T>
void silu_backward(float* dx, const float* dx_add, const T* dy, const float* x, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const vf g = load(dy + i) * silu_slope(load(x + i));
    store(dx + i, dx_add ? load(dx_add + i) + g : g);
  }
  if (i < n) {
    const vf g = load_n(dy + i, n - i) * silu_slope(load_n(x + i, n - i));
    store_n(dx + i, dx_add ? load_n(dx_add + i, n - i) + g : g, n - i);
  }
}

template <class T>
void add(T* out, const T* a, const T* b, int64_t n) {
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    store2(out + i, load(a + i) + load(b + i), load(a + i + kLanes) + load(b + i + kLanes));
  }
  for (; i + kLanes <= n; i += kLanes) store(out + i, load(a + i) + load(b + i));
  if (i < n) store_n(out + i, load_n(a + i, n - i) + load_n(b + i, n - i), n - i);
}

template <class T>
void from_f32(T* y, const float* x, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store_exact(y + i, load(x + i));
  if (i < n) store_exact_n(y + i, load_n(x + i, n - i), n - i);
}

template <class T>
void to_f32(float* y, const T* x, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, load(x + i));
  if (i < n) store_n(y + i, load_n(x + i, n - i), n - i);
}

/// Half to single precision: a multiplication rebiases the exponent, which also normalises denormals.
ORCH_INLINE vf widen_half(vh h) {
  const vu u = widen_integers(h);
  const vf magnitude = (vf)((u & 0x7fffu) << 13) * splat(0x1p112f);
  const vu special = (u & 0x7c00u) == 0x7c00u ? (vu)(((u & 0x3ffu) << 13) | 0x7f800000u) : bits_of(magnitude);
  return (vf)(special | ((u & 0x8000u) << 16));
}

template <class T>
void from_f16(T* y, const f16* x, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    store_exact(y + i, widen_half(*reinterpret_cast<const vh_unaligned*>(x + i)));
  }
  if (i < n) {
    vh h = {};
    std::memcpy(&h, x + i, static_cast<size_t>(n - i) * 2);
    store_exact_n(y + i, widen_half(h), n - i);
  }
}

template <class T>
void timestep_embedding(T* out, const float* t, int64_t samples) {
  float waves[2 * kWaves];
  for (int64_t b = 0; b < samples; ++b) {
    timestep_waves(waves, t[b]);
    from_f32(out + b * 2 * kWaves, waves, 2 * kWaves);
  }
}

}  // namespace

void fill_elementwise(Table& t) {
  t.each_type([]<class T>(Typed<T>& k) {
    k.gelu = gelu<T>;
    k.gelu_backward = gelu_backward<T>;
    k.silu = silu<T>;
    k.silu_backward = silu_backward<T>;
    k.add = add<T>;
    k.from_f32 = from_f32<T>;
    k.to_f32 = to_f32<T>;
    k.from_f16 = from_f16<T>;
    k.timestep_embedding = timestep_embedding<T>;
  });
}

}  // namespace orch::kernels::ORCH_ISA
