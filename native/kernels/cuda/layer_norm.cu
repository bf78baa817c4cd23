// LayerNorm without affine parameters, followed by adaLN's modulation; forward and backward. A warp takes a
// row, which stays in registers up to 4096 channels.
#include "families.h"

namespace orch::kernels::cuda {
namespace {

constexpr int kWarps = 4, kThreads = kWarps * kWarp;
constexpr int64_t kForwardRows = 16, kBackwardRows = 32;  ///< of a block: neighbours share shift and scale
constexpr float kEps = 1e-6f;

/// The lane's vectors of eight channels of a row: Vectors of them in registers, or (0) read anew each time.
template <int Vectors, class T>
struct Row {
  Pack<T> pack[Vectors ? Vectors : 1];
  const T* x;
  int count;  ///< vectors of the whole row

  GPU_INLINE Row(const T* x_, int width) : x(x_), count(width / 8) {
    const int lane = threadIdx.x % kWarp;
#pragma unroll
    for (int v = 0; v < Vectors; ++v)
      if (v * kWarp + lane < count) pack[v].load(x + 8 * (v * kWarp + lane));
  }
  GPU_INLINE void get(float (&e)[8], int v, int i) const {
    if constexpr (Vectors > 0)
      pack[v].widen(e);
    else
      load8(e, x + 8 * i);
  }
};
/// f(v, i) for the lane's vectors: v of its own, i of the row's.
template <int Vectors, class F>
GPU_INLINE void each(int count, F f) {
  const int lane = threadIdx.x % kWarp;
  if constexpr (Vectors > 0) {
#pragma unroll
    for (int v = 0; v < Vectors; ++v)
      if (v * kWarp + lane < count) f(v, v * kWarp + lane);
  } else {
    for (int i = lane; i < count; i += kWarp) f(0, i);
  }
}

template <int Vectors, class R, class T>
__global__ void __launch_bounds__(kThreads) forward(T* y, float* mean, float* rstd, const R* x,
                                                    const float* shift, const float* scale, StreamDims d) {
  const int width = static_cast<int>(d.width);
  const int64_t rows = d.samples * d.tokens, start = blockIdx.x * kForwardRows;
  for (int64_t row = start + threadIdx.x / kWarp; row < start + kForwardRows && row < rows; row += kWarps) {
    const Row<Vectors, R> r(x + row * width, width);
    float sum = 0, squares = 0;
    each<Vectors>(r.count, [&](int v, int i) {
      float e[8];
      r.get(e, v, i);
#pragma unroll
      for (int j = 0; j < 8; ++j) sum += e[j];
    });
    const float mu = sum_lanes(sum) / static_cast<float>(width);
    each<Vectors>(r.count, [&](int v, int i) {
      float e[8];
      r.get(e, v, i);
#pragma unroll
      for (int j = 0; j < 8; ++j) squares += (e[j] - mu) * (e[j] - mu);
    });
    const float factor = 1.0f / sqrtf(sum_lanes(squares) / static_cast<float>(width) + kEps);
    if (threadIdx.x % kWarp == 0) {
      mean[row] = mu;
      rstd[row] = factor;
    }
    const int64_t mod = row / d.tokens * d.mod_stride;
    each<Vectors>(r.count, [&](int v, int i) {
      float e[8], sh[8], sc[8];
      r.get(e, v, i);
      load8(sh, shift + mod + 8 * i);
      load8(sc, scale + mod + 8 * i);
#pragma unroll
      for (int j = 0; j < 8; ++j) e[j] = (e[j] - mu) * factor * (1.0f + sc[j]) + sh[j];
      store8(y + row * width + 8 * i, e);
    });
  }
}

/// Rows [blockIdx.x * kBackwardRows, ...) of sample blockIdx.y. Sums of columns gather in shared memory, a
/// pair of rows (shift, scale) for each warp.
template <int Vectors, class R, class T>
__global__ void __launch_bounds__(kThreads)
    backward(R* dx, float* partial, const R* dx_add, const T* dy, const R* x, const float* mean,
             const float* rstd, const float* scale, StreamDims d) {
  GPU_SHARED(memory);
  float* const sums = reinterpret_cast<float*>(memory);
  const int width = static_cast<int>(d.width), warp = threadIdx.x / kWarp;
  float* const mine = sums + static_cast<int64_t>(warp) * 2 * width;
  for (int i = threadIdx.x; i < kWarps * 2 * width; i += kThreads) sums[i] = 0;
  __syncthreads();

  const int64_t sample = blockIdx.y, start = blockIdx.x * kBackwardRows;
  const float* const sc_row = scale + sample * d.mod_stride;
  for (int64_t n = start + warp; n < start + kBackwardRows && n < d.tokens; n += kWarps) {
    const int64_t row = sample * d.tokens + n;
    const Row<Vectors, R> rx(x + row * width, width);
    const Row<Vectors, T> rg(dy + row * width, width);
    const float mu = mean[row], factor = rstd[row];
    float sum = 0, dot = 0;
    each<Vectors>(rx.count, [&](int v, int i) {
      float e[8], g[8], sc[8], a[8], b[8];
      rx.get(e, v, i);
      rg.get(g, v, i);
      load8(sc, sc_row + 8 * i);
      load8(a, mine + 8 * i);
      load8(b, mine + width + 8 * i);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float xhat = (e[j] - mu) * factor, gs = g[j] * (1.0f + sc[j]);
        a[j] += g[j];
        b[j] += g[j] * xhat;
        sum += gs;
        dot += gs * xhat;
      }
      store8(mine + 8 * i, a);
      store8(mine + width + 8 * i, b);
    });
    sum = sum_lanes(sum) / static_cast<float>(width);
    dot = sum_lanes(dot) / static_cast<float>(width);
    each<Vectors>(rx.count, [&](int v, int i) {
      float e[8], g[8], sc[8], before[8] = {};
      rx.get(e, v, i);
      rg.get(g, v, i);
      load8(sc, sc_row + 8 * i);
      if (dx_add) load8(before, dx_add + row * width + 8 * i);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float xhat = (e[j] - mu) * factor;
        e[j] = factor * (g[j] * (1.0f + sc[j]) - sum - xhat * dot) + before[j];
      }
      store8(dx + row * width + 8 * i, e);
    });
  }
  __syncthreads();
  float* const to = partial + (sample * gridDim.x + blockIdx.x) * 2 * width;
  for (int i = threadIdx.x; i < 2 * width; i += kThreads) {
    float s = sums[i];
    for (int w = 1; w < kWarps; ++w) s += sums[w * 2 * width + i];
    to[i] = s;
  }
}

/// Calls f with the number of vectors that a lane holds, as a constant.
template <class F>
void with_vectors(int64_t width, F f) {
  const int64_t n = (width + 8 * kWarp - 1) / (8 * kWarp);
  if (n <= 2)
    f(std::integral_constant<int, 2>{});
  else if (n <= 6)
    f(std::integral_constant<int, 6>{});
  else if (n <= 10)
    f(std::integral_constant<int, 10>{});
  else if (n <= 16)
    f(std::integral_constant<int, 16>{});
  else
    f(std::integral_constant<int, 0>{});
}

template <class R, class T>
void layer_norm_modulate(T* y, float* mean, float* rstd, const R* x, const float* shift, const float* scale,
                         const StreamDims& d) {
  with_vectors(d.width, [&](auto vectors) {
    launch(forward<decltype(vectors)::value, R, T>, blocks(d.samples * d.tokens, kForwardRows), kThreads, 0,
           y, mean, rstd, x, shift, scale, d);
  });
}

template <class R, class T>
void layer_norm_modulate_backward(R* dx, const R* dx_add, float* dshift, float* dscale, const T* dy,
                                  const R* x, const float* mean, const float* rstd, const float* scale,
                                  const StreamDims& d) {
  const int64_t chunks = (d.tokens + kBackwardRows - 1) / kBackwardRows;
  float* partial = workspace<float>(d.samples * chunks * 2 * d.width);
  with_vectors(d.width, [&](auto vectors) {
    launch(backward<decltype(vectors)::value, R, T>,
           dim3(static_cast<unsigned>(chunks), static_cast<unsigned>(d.samples)), kThreads,
           sizeof(float) * kWarps * 2 * d.width, dx, partial, dx_add, dy, x, mean, rstd, scale, d);
  });
  sum_chunks(dshift, dscale, partial, d.samples, chunks, d.width, d.mod_stride);
}

template <class R, class T>
void fill(Residual<R, T>& t) {
  t.layer_norm_modulate = layer_norm_modulate<R, T>;
  t.layer_norm_modulate_backward = layer_norm_modulate_backward<R, T>;
}

}  // namespace

void fill_layer_norm(Table& t) {
  fill<float, float>(t.f32);
  fill<bf16, bf16>(t.b16);
  fill<float, bf16>(t.mixed);
}

}  // namespace orch::kernels::cuda
