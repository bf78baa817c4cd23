// LayerNorm without affine parameters, followed by the modulation of adaLN; forward and backward, also fused
// with the gated residual before it. Forward: one warp per row, which stays in registers up to 4096 channels.
// Backward: one block per row.
#include "../../core/error.h"
#include "amax.h"
#include "families.h"

namespace orch::kernels::cuda {
namespace {

// Sizes of the forward pass.
constexpr int kWarps = 4, kThreads = kWarps * kWarp;
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

/// A row by a warp. `Gated`: it is first replaced by out = x + gate * y.
template <int Vectors, bool Gated, class R, class T>
GPU_INLINE void forward_row(int64_t row, R* out, T* normed, float* mean, float* rstd, const R* x, const T* y,
                            Gate gate, const float* shift, const float* scale, const StreamDims& d,
                            Largest& largest) {
  const int width = static_cast<int>(d.width);
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
    Pack<T> rounded;
    rounded.narrow(e);
    rounded.store(normed + row * width + 8 * i);
    largest.see(rounded);
  });
}

/// `amax` (or null): raised to the largest magnitude of normed.
template <int Vectors, bool Gated, class R, class T>
__global__ void __launch_bounds__(kThreads)
    forward(R* out, T* normed, float* mean, float* rstd, const R* x, const T* y, Gate gate,
            const float* shift, const float* scale, StreamDims d, uint32_t* amax) {
  GPU_SHARED(memory);
  let_next_kernel_start();
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  Largest largest;
  if (row < d.samples * d.tokens)
    forward_row<Vectors, Gated>(row, out, normed, mean, rstd, x, y, gate, shift, scale, d, largest);
  if (amax) raise_amax(amax, largest, memory);
}

/// Most threads of a block in the backward pass. Blocks of kFewThreads have so few registers that three fit.
constexpr int kMostThreads = 512, kFewThreads = 256;

/// What the backward pass reads of a row: a thread has the same `Vectors` vectors of columns in every row.
template <int Vectors, bool Gated, class R, class T>
struct RowGradients {
  Pack<R> x[Vectors], add[Vectors];
  Pack<T> normed[Vectors], y[Gated ? Vectors : 1];
  float mean, rstd;
};

/// Rows [blockIdx.x * rows, ...) of sample blockIdx.y, one after the other by the whole block; the next row is
/// read while one is computed. The sums over rows stay in registers. `amax` (or null): raised to the largest
/// magnitude of dy.
template <int Vectors, int Threads, bool Gated, class R, class T>
__global__ void __launch_bounds__(Threads, Threads == kFewThreads ? 3 : 1)
    backward(R* dx, float* partial, const R* dx_add, T* dy, const T* dnormed, const R* out, const float* mean,
             const float* rstd, const float* scale, const T* y, Gate gate, StreamDims d, int64_t rows,
             uint32_t* amax) {
  GPU_SHARED(memory);
  let_next_kernel_start();
  const int width = static_cast<int>(d.width), count = width / 8, lane = threadIdx.x % kWarp,
            warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  float2* of_warps = reinterpret_cast<float2*>(memory);  // [2][warps], for two rows in turn
  const auto each_vector = [&](auto f) {
#pragma unroll
    for (int v = 0; v < Vectors; ++v)
      if (const int i = v * blockDim.x + threadIdx.x; i < count) f(v, 8 * i);
  };
  const int64_t sample = blockIdx.y, start = blockIdx.x * rows;
  const int64_t end = start + rows < d.tokens ? start + rows : d.tokens;
  float factors[Vectors][8];  // 1 + scale
  each_vector([&](int v, int i) {
    load8(factors[v], scale + sample * d.mod_stride + i);
#pragma unroll
    for (int j = 0; j < 8; ++j) factors[v][j] += 1.0f;
  });
  using Gradients = RowGradients<Vectors, Gated, R, T>;
  const auto read = [&](Gradients& r, int64_t n) {
    const int64_t row = sample * d.tokens + n, at = row * width;
    r.mean = mean[row];
    r.rstd = rstd[row];
    each_vector([&](int v, int i) {
      r.x[v].load(out + at + i);
      r.normed[v].load(dnormed + at + i);
      if (dx_add) r.add[v].load(dx_add + at + i);
      if constexpr (Gated) r.y[v].load(y + at + i);
    });
  };

  constexpr int kSums = Gated ? 3 : 2;  // shift, scale and gate
  float sums[Vectors][kSums][8] = {};
  Largest largest;
  Gradients next;
  read(next, start);
  for (int64_t n = start; n < end; ++n) {
    const Gradients r = next;
    if (n + 1 < end) read(next, n + 1);
    float2 sum{0, 0};
    each_vector([&](int v, int) {
      float e[8], g[8];
      r.x[v].widen(e);
      r.normed[v].widen(g);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float xhat = (e[j] - r.mean) * r.rstd, gs = g[j] * factors[v][j];
        sums[v][0][j] += g[j];
        sums[v][1][j] += g[j] * xhat;
        sum.x += gs;
        sum.y += gs * xhat;
      }
    });
    sum.x = sum_lanes(sum.x);
    sum.y = sum_lanes(sum.y);
    float2* const parts = of_warps + (n & 1) * warps;
    if (lane == 0) parts[warp] = sum;
    __syncthreads();  // the other half is read until the next one
    sum = parts[0];
    for (int w = 1; w < warps; ++w) {
      sum.x += parts[w].x;
      sum.y += parts[w].y;
    }
    sum.x /= static_cast<float>(width);
    sum.y /= static_cast<float>(width);
    const int64_t at = (sample * d.tokens + n) * width;
    each_vector([&](int v, int i) {
      float e[8], g[8], before[8] = {};
      r.x[v].widen(e);
      r.normed[v].widen(g);
      if (dx_add) r.add[v].widen(before);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float xhat = (e[j] - r.mean) * r.rstd;
        e[j] = r.rstd * (g[j] * factors[v][j] - sum.x - xhat * sum.y) + before[j];
      }
      Pack<R> rounded;
      rounded.narrow(e);
      rounded.store(dx + at + i);
      if constexpr (Gated) {
        float b[8];
        rounded.widen(e);
        r.y[v].widen(b);
        load8(g, gate.values + sample * gate.stride + i);
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          sums[v][2][j] += e[j] * b[j];
          e[j] *= g[j];
        }
        Pack<T> product;
        product.narrow(e);
        product.store(dy + at + i);
        largest.see(product);
      }
    });
  }
  if constexpr (Gated)
    if (amax) raise_amax(amax, largest, of_warps + 2 * warps);
  const int64_t chunk = sample * gridDim.x + blockIdx.x;
  each_vector([&](int v, int i) {
#pragma unroll
    for (int s = 0; s < kSums; ++s) store8(partial + (chunk * kSums + s) * width + i, sums[v][s]);
  });
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
               int64_t gate_stride, const float* shift, const float* scale, const StreamDims& d,
               uint32_t* amax) {
  with_vectors(d.width, [&](auto vectors) {
    constexpr int kVectors = decltype(vectors)::value;
    launch(y ? forward<kVectors, true, R, T> : forward<kVectors, false, R, T>,
           blocks(d.samples * d.tokens, kWarps), kThreads, kAmaxBytes, out, normed, mean, rstd, x, y,
           Gate{gate, gate_stride}, shift, scale, d, amax);
  });
}

template <class R, class T>
void gate_norm_backward(R* dx, const R* dx_add, float* dshift, float* dscale, T* dy, float* dgate,
                        const T* dnormed, const R* out, const float* mean, const float* rstd,
                        const float* scale, const T* y, const float* gate, int64_t gate_stride,
                        const StreamDims& d, uint32_t* amax) {
  const int64_t rows = gradient_rows(d), chunks = blocks(d.tokens, rows), vectors = d.width / 8;
  float* const partial = workspace<float>((y ? 3 : 2) * d.samples * chunks * d.width);
  const auto run = [&](auto of_thread, auto most_threads) {
    constexpr int kVectors = decltype(of_thread)::value, kThreads = decltype(most_threads)::value;
    const unsigned warps = blocks(vectors, kVectors * kWarp);
    launch(y ? backward<kVectors, kThreads, true, R, T> : backward<kVectors, kThreads, false, R, T>,
           dim3(static_cast<unsigned>(chunks), static_cast<unsigned>(d.samples)), warps * kWarp,
           2 * warps * sizeof(float2) + kAmaxBytes, dx, partial, dx_add, dy, dnormed, out, mean, rstd, scale, y,
           Gate{gate, gate_stride}, d, rows, amax);
  };
  constexpr std::integral_constant<int, kMostThreads> most;
  if (vectors <= kFewThreads)
    run(std::integral_constant<int, 1>{}, std::integral_constant<int, kFewThreads>{});
  else if (vectors <= kMostThreads)
    run(std::integral_constant<int, 1>{}, most);
  else if (vectors <= 2 * kMostThreads)
    run(std::integral_constant<int, 2>{}, most);
  else if (vectors <= 4 * kMostThreads)
    run(std::integral_constant<int, 4>{}, most);
  else
    throw Error("ERR_CUDA", "Rows of ", d.width, " channels are too wide for a GPU");
  sum_chunks({{{dshift, d.mod_stride}, {dscale, d.mod_stride}, {dgate, gate_stride}}}, y ? 3 : 2, partial,
             d.samples, chunks, d.width);
}

}  // namespace

void fill_layer_norm(Table& t) {
  t.each_pair([]<class R, class T>(Residual<R, T>& k) {
    k.gate_norm = gate_norm<R, T>;
    k.gate_norm_backward = gate_norm_backward<R, T>;
  });
}

}  // namespace orch::kernels::cuda
