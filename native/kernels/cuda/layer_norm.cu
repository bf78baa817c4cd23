// LayerNorm without affine parameters, followed by the modulation of adaLN; forward and backward, also fused
// with the gated residual before it. One warp per row, which stays in registers up to 4096 channels.
#include "families.h"

namespace orch::kernels::cuda {
namespace {

constexpr int kWarps = kGradientLanes, kThreads = kWarps * kWarp;
constexpr int64_t kForwardRows = 16;  ///< rows per block: adjacent rows share shift and scale
constexpr float kEps = 1e-6f;

/// A lane's vectors of eight channels of a row: `Vectors` of them in registers; 0: read again each time.
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
  /// Replaces the vector by e, rounded, in registers and in memory.
  GPU_INLINE void put(T* to, const float (&e)[8], int v, int i) {
    Pack<T>& p = pack[Vectors ? v : 0];
    p.narrow(e);
    p.store(to + 8 * i);
  }
};
/// Calls f(v, i) for the lane's vectors: v is the index in the lane, i in the row.
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

/// The gate of the residual connection before the norm.
struct Gate {
  const float* values;
  int64_t stride;
};

/// `Gated`: the row is first replaced by out = x + gate * y.
template <int Vectors, bool Gated, class R, class T>
__global__ void __launch_bounds__(kThreads)
    forward(R* out, T* normed, float* mean, float* rstd, const R* x, const T* y, Gate gate,
            const float* shift, const float* scale, StreamDims d) {
  const int width = static_cast<int>(d.width);
  const int64_t rows = d.samples * d.tokens, start = blockIdx.x * kForwardRows;
  for (int64_t row = start + threadIdx.x / kWarp; row < start + kForwardRows && row < rows; row += kWarps) {
    Row<Vectors, R> r(x + row * width, width);
    if constexpr (Gated) {
      const float* const values = gate.values + row / d.tokens * gate.stride;
      each<Vectors>(r.count, [&](int v, int i) {
        float a[8], b[8], g[8];
        r.get(a, v, i);
        load8(b, y + row * width + 8 * i);
        load8(g, values + 8 * i);
#pragma unroll
        for (int j = 0; j < 8; ++j) a[j] += g[j] * b[j];
        r.put(out + row * width, a, v, i);
      });
      r.x = out + row * width;
    }
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
      store8(normed + row * width + 8 * i, e);
    });
  }
}

/// Rows [blockIdx.x * kGradientRows, ...) of sample blockIdx.y. Column sums accumulate in shared memory, in
/// one row of shift, scale (and gate) per warp.
template <int Vectors, bool Gated, class R, class T>
__global__ void __launch_bounds__(kThreads)
    backward(R* dx, float* partial, float* partial_gate, const R* dx_add, T* dy, const T* dnormed,
             const R* out, const float* mean, const float* rstd, const float* scale, const T* y, Gate gate,
             StreamDims d) {
  GPU_SHARED(memory);
  float* const sums = reinterpret_cast<float*>(memory);
  const int width = static_cast<int>(d.width), warp = threadIdx.x / kWarp, columns = (Gated ? 3 : 2) * width;
  float* const mine = sums + static_cast<int64_t>(warp) * columns;
  for (int i = threadIdx.x; i < kWarps * columns; i += kThreads) sums[i] = 0;
  __syncthreads();

  const int64_t sample = blockIdx.y, start = blockIdx.x * kGradientRows;
  const float* const sc_row = scale + sample * d.mod_stride;
  for (int64_t n = start + warp; n < start + kGradientRows && n < d.tokens; n += kWarps) {
    const int64_t row = sample * d.tokens + n;
    const Row<Vectors, R> rx(out + row * width, width);
    const Row<Vectors, T> rg(dnormed + row * width, width);
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
      Pack<R> rounded;
      rounded.narrow(e);
      rounded.store(dx + row * width + 8 * i);
      if constexpr (Gated) {
        float b[8], c[8];
        rounded.widen(e);
        load8(b, y + row * width + 8 * i);
        load8(c, mine + 2 * width + 8 * i);
        load8(g, gate.values + sample * gate.stride + 8 * i);
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          c[j] += e[j] * b[j];
          e[j] *= g[j];
        }
        store8(mine + 2 * width + 8 * i, c);
        store8(dy + row * width + 8 * i, e);
      }
    });
  }
  __syncthreads();
  const int64_t chunk = sample * gridDim.x + blockIdx.x;
  for (int i = threadIdx.x; i < columns; i += kThreads) {
    float s = sums[i];
    for (int w = 1; w < kWarps; ++w) s += sums[w * columns + i];
    if constexpr (Gated) {
      if (i >= 2 * width) {
        partial_gate[chunk * width + i - 2 * width] = s;
        continue;
      }
    }
    partial[chunk * 2 * width + i] = s;
  }
}

/// Calls f with the number of vectors per lane, as a constant.
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
void gate_norm(R* out, T* normed, float* mean, float* rstd, const R* x, const T* y, const float* gate,
               int64_t gate_stride, const float* shift, const float* scale, const StreamDims& d) {
  with_vectors(d.width, [&](auto vectors) {
    constexpr int kVectors = decltype(vectors)::value;
    launch(y ? forward<kVectors, true, R, T> : forward<kVectors, false, R, T>,
           blocks(d.samples * d.tokens, kForwardRows), kThreads, 0, out, normed, mean, rstd, x, y,
           Gate{gate, gate_stride}, shift, scale, d);
  });
}

template <class R, class T>
void gate_norm_backward(R* dx, const R* dx_add, float* dshift, float* dscale, T* dy, float* dgate,
                        const T* dnormed, const R* out, const float* mean, const float* rstd,
                        const float* scale, const T* y, const float* gate, int64_t gate_stride,
                        const StreamDims& d) {
  // Far beyond 4096 channels, three sums per warp would not fit shared memory: the gate's follow apart.
  const bool gated = y && d.width <= 4096;
  const int64_t chunks = blocks(d.tokens, kGradientRows), sums = d.samples * chunks * d.width;
  float *partial = workspace<float>((gated ? 3 : 2) * sums), *partial_gate = partial + 2 * sums;
  with_vectors(d.width, [&](auto vectors) {
    constexpr int kVectors = decltype(vectors)::value;
    launch(gated ? backward<kVectors, true, R, T> : backward<kVectors, false, R, T>,
           dim3(static_cast<unsigned>(chunks), static_cast<unsigned>(d.samples)), kThreads,
           sizeof(float) * kWarps * (gated ? 3 : 2) * d.width, dx, partial, partial_gate, dx_add, dy, dnormed,
           out, mean, rstd, scale, y, Gate{gate, gate_stride}, d);
  });
  sum_chunks(dshift, dscale, partial, d.samples, chunks, d.width, d.mod_stride);
  if (gated) {
    sum_chunks(dgate, nullptr, partial_gate, d.samples, chunks, d.width, gate_stride);
  } else if (y) {
    StreamDims of_gate = d;
    of_gate.mod_stride = gate_stride;
    table().residual<R, T>().gate_residual_backward(dy, dgate, dx, y, gate, of_gate);
  }
}

}  // namespace

void fill_layer_norm(Table& t) {
  t.each_pair([]<class R, class T>(Residual<R, T>& k) {
    k.gate_norm = gate_norm<R, T>;
    k.gate_norm_backward = gate_norm_backward<R, T>;
  });
}

}  // namespace orch::kernels::cuda
