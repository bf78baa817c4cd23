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

ORCH_INLINE vf silu_slope(vf x) {
  const vf s = sigmoid_of<float>(x);
  return s * (splat(1.0f) + x * (splat(1.0f) - s));
}

template <class T>
void from_f32(T* y, const float* x, int64_t n) {
  each_vector(n, [=](auto at) { at.put_exact(y, at(x)); });
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
    k.gelu = [](T* y, const T* x, int64_t n) { map(y, n, [=](auto at) { return gelu_of<T>(at(x)); }); };
    k.gelu_backward = [](T* dx, const T* dy, const T* x, int64_t n, uint32_t* /*amax*/) {
      map(dx, n, [=](auto at) { return at(dy) * gelu_slope<T>(at(x)); });
    };
    k.silu = [](T* y, const float* x, int64_t n) {
      map(y, n, [=](auto at) {
        const vf v = at(x);
        return v * sigmoid_of<T>(v);
      });
    };
    k.silu_backward = [](float* dx, const float* dx_add, const T* dy, const float* x, int64_t n) {
      each_vector(n, [=](auto at) {
        const vf g = at(dy) * silu_slope(at(x));
        at.put(dx, dx_add ? at(dx_add) + g : g);
      });
    };
    k.add = [](T* out, const T* a, const T* b, int64_t n) {
      map(out, n, [=](auto at) { return at(a) + at(b); });
    };
    k.from_f32 = from_f32<T>;
    k.to_f32 = [](float* y, const T* x, int64_t n) { map(y, n, [=](auto at) { return at(x); }); };
    k.from_f16 = [](T* y, const f16* x, int64_t n) {
      each_vector(n, [=](auto at) { at.put_exact(y, at(x)); });
    };
    k.timestep_embedding = timestep_embedding<T>;
  });
  t.each_pair([]<class R, class T>(Residual<R, T>& k) {
    k.add_position = [](R* out, const T* x, const float* position, int64_t samples, int64_t tokens,
                        int64_t width) {
      const int64_t n = tokens * width;
      for (const R* end = out + samples * n; out < end; out += n, x += n)
        map(out, n, [=](auto at) { return at(x) + at(position); });
    };
  });
}

}  // namespace orch::kernels::ORCH_ISA
