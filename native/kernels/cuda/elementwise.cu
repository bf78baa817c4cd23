// Activation functions, sums, conversions of storage types, and the sinusoidal timestep embedding. Eight
// elements per thread.
#include "../../core/elementary.h"
#include "amax.h"
#include "families.h"

namespace orch::kernels::cuda {
namespace {

constexpr int kThreads = 256;

/// y[i] = f(a[i], b[i], c[i]); a null pointer stands for zeros. `Finds`: *amax is raised to y's largest magnitude.
template <auto f, bool Finds, class Y, class A, class B, class C>
__global__ void __launch_bounds__(kThreads)
    map(Y* y, const A* a, const B* b, const C* c, int64_t n, uint32_t* amax) {
  GPU_SHARED(memory);
  const int64_t i = 8 * (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x);
  Largest largest;
  if constexpr (Finds) let_next_kernel_start();
  if (i + 8 <= n) {
    float x[3][8] = {}, out[8];
    if (a) load8(x[0], a + i);
    if (b) load8(x[1], b + i);
    if (c) load8(x[2], c + i);
#pragma unroll
    for (int j = 0; j < 8; ++j) out[j] = f(x[0][j], x[1][j], x[2][j]);
    Pack<Y> rounded;
    rounded.narrow(out);
    rounded.store(y + i);
    largest.see(rounded);
  } else {
    for (int64_t j = i; j < n; ++j) {
      y[j] = narrow<Y>(f(a ? widen(a[j]) : 0.0f, b ? widen(b[j]) : 0.0f, c ? widen(c[j]) : 0.0f));
      largest.see(y[j]);
    }
  }
  if constexpr (Finds) raise_amax(amax, largest, memory);
}
template <auto f, bool Finds = false, class Y, class A, class B = float, class C = float>
void run(int64_t n, Y* y, const A* a, const B* b = nullptr, const C* c = nullptr, uint32_t* amax = nullptr) {
  launch(map<f, Finds, Y, A, B, C>, blocks(n, 8 * kThreads), kThreads, Finds ? kAmaxBytes : 0, y, a, b, c, n,
         amax);
}

template <class T>
GPU_INLINE float gelu(float x, float, float) {
  return gelu_of<T>(x);
}
template <class T>
GPU_INLINE float gelu_backward(float dy, float x, float) {
  const float s = Math<T>::sigmoid(x * (kTwoU + kTwoUCubic * x * x));
  return dy * (s + x * s * (1.0f - s) * (kTwoU + 3 * kTwoUCubic * x * x));
}
GPU_INLINE float silu(float x, float, float) { return x * Math<float>::sigmoid(x); }
GPU_INLINE float silu_backward(float dy, float x, float add) {
  const float s = Math<float>::sigmoid(x);
  return add + dy * (s * (1.0f + x * (1.0f - s)));
}
GPU_INLINE float sum(float a, float b, float) { return a + b; }
GPU_INLINE float same(float a, float, float) { return a; }

__global__ void __launch_bounds__(kThreads) scale(float* x, float factor, int64_t n) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < n) x[i] *= factor;
}

/// Half to single precision: a multiplication rebiases the exponent, which also normalises denormals.
GPU_INLINE float widen_half(uint32_t h) {
  const uint32_t rest = h & 0x7fffu, sign = (h & 0x8000u) << 16;
  if ((h & 0x7c00u) == 0x7c00u) return as_float((h & 0x3ffu) << 13 | 0x7f800000u | sign);
  const float magnitude = as_float(rest << 13) * as_float(0x77800000u);  // 2^112
  return sign ? -magnitude : magnitude;
}
template <class T>
__global__ void __launch_bounds__(kThreads) half_to(T* y, const f16* x, int64_t n) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < n) y[i] = narrow<T>(widen_half(x[i].bits));
}

template <class T>
__global__ void __launch_bounds__(kWaves) embed_timestep(T* out, const float* t) {
  const int i = threadIdx.x;
  const double frequency = elementary::power_of_10000(-static_cast<double>(i) / kWaves);
  float sine, cosine;
  elementary::sine_cosine(static_cast<double>(t[blockIdx.x]) * frequency, sine, cosine);
  T* row = out + static_cast<int64_t>(blockIdx.x) * 2 * kWaves;
  row[i] = narrow<T>(cosine);
  row[kWaves + i] = narrow<T>(sine);
}

}  // namespace

void fill_elementwise(Table& t) {
  t.each_type([]<class T>(Typed<T>& k) {
    k.gelu = [](T* y, const T* x, int64_t n) { run<gelu<T>>(n, y, x); };
    k.gelu_backward = [](T* dx, const T* dy, const T* x, int64_t n, uint32_t* amax) {
      if (amax)
        run<gelu_backward<T>, true>(n, dx, dy, x, static_cast<const float*>(nullptr), amax);
      else
        run<gelu_backward<T>>(n, dx, dy, x);
    };
    k.silu = [](T* y, const float* x, int64_t n) { run<silu>(n, y, x); };
    k.silu_backward = [](float* dx, const float* dx_add, const T* dy, const float* x, int64_t n) {
      run<silu_backward>(n, dx, dy, x, dx_add);
    };
    k.add = [](T* out, const T* a, const T* b, int64_t n) { run<sum>(n, out, a, b); };
    k.from_f32 = [](T* y, const float* x, int64_t n) { run<same>(n, y, x); };
    k.to_f32 = [](float* y, const T* x, int64_t n) { run<same>(n, y, x); };
    k.from_f16 = [](T* y, const f16* x, int64_t n) {
      launch(half_to<T>, blocks(n, kThreads), kThreads, 0, y, x, n);
    };
    k.timestep_embedding = [](T* out, const float* t, int64_t samples) {
      launch(embed_timestep<T>, static_cast<unsigned>(samples), kWaves, 0, out, t);
    };
  });
  t.raw.scale_into = [](float* dst, float factor, int64_t n) {
    launch(scale, blocks(n, kThreads), kThreads, 0, dst, factor, n);
  };
}

}  // namespace orch::kernels::cuda
