// Splits rows of qkv into the heads of the joint sequence, with RMSNorm of q and k; and the inverse. Eight
// threads process a head of a token, eight channels each.
#include "amax.h"
#include "families.h"

namespace orch::kernels::cuda {
namespace {

constexpr int kThreads = 192, kHeadLanes = 8;
constexpr float kEps = 1e-6f;
/// Tokens per block in the backward pass: rows [blockIdx.x * kRows, ...) of sample blockIdx.y.
constexpr int kRows = 4;

/// Vector `unit` of a token's row of qkv, and its destination.
struct Unit {
  int part, head;  ///< 0 to 2: q, k, v
  int64_t joint;   ///< element in the joint arrays
};
GPU_INLINE Unit place(int unit, int64_t row, const HeadDims& d) {
  const int heads = static_cast<int>(d.heads), part = unit / (heads * kHeadLanes),
            head = unit / kHeadLanes - part * heads;
  const uint32_t sample = static_cast<uint32_t>(row) / static_cast<uint32_t>(d.tokens);
  const int64_t token = row - sample * d.tokens;
  return {part, head,
          ((sample * d.heads + head) * d.joint_tokens + d.offset + token) * kHeadDim + unit % kHeadLanes * 8};
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    split(T* q, T* k, T* v, float* q_rstd, float* k_rstd, const T* qkv, const float* gamma_q,
          const float* gamma_k, HeadDims d) {
  const int64_t row = blockIdx.x;
  const int units = static_cast<int>(d.heads) * 3 * kHeadLanes;
  for (int first = 0; first < units; first += kThreads) {
    const int unit = first + static_cast<int>(threadIdx.x);
    const bool inside = unit < units;  // all lanes of a warp take part in its sums
    const Unit u = place(inside ? unit : 0, row, d);
    float x[8] = {};
    if (inside) load8(x, qkv + (row * units + unit) * 8);
    if (gamma_q != nullptr) {
      float squares = 0;
#pragma unroll
      for (int j = 0; j < 8; ++j) squares += x[j] * x[j];
      const float r = 1.0f / sqrtf(sum_lanes<kHeadLanes>(squares) * (1.0f / kHeadDim) + kEps);
      if (inside && u.part < 2) {
        float g[8];
        load8(g, (u.part == 0 ? gamma_q : gamma_k) + unit % kHeadLanes * 8);
#pragma unroll
        for (int j = 0; j < 8; ++j) x[j] *= r * g[j];
        if (unit % kHeadLanes == 0) (u.part == 0 ? q_rstd : k_rstd)[row * d.heads + u.head] = r;
      }
    }
    if (inside) store8((u.part == 0 ? q : u.part == 1 ? k : v) + u.joint, x);
  }
}

/// A vector of eight channels of the block's first row of qkv, which a thread follows through the rows.
struct Column {
  int part, lane;     ///< 0 to 2: q, k, v; the vector's number in its head
  int64_t row;        ///< the block's first, of all samples
  int64_t qkv, joint; ///< elements in qkv and in the joint arrays; of the next row, `stride` and kHeadDim further
  int64_t stride, rstd;
  int rows;

  GPU_INLINE Column(int unit, const HeadDims& d) {
    const int heads = static_cast<int>(d.heads), of_head = unit / kHeadLanes;
    part = of_head / heads;
    lane = unit % kHeadLanes;
    const int64_t head = of_head - part * heads, sample = blockIdx.y, token = blockIdx.x * kRows;
    row = sample * d.tokens + token;
    stride = 3 * d.heads * kHeadDim;
    qkv = row * stride + 8 * unit;
    joint = ((sample * d.heads + head) * d.joint_tokens + d.offset + token) * kHeadDim + 8 * lane;
    rstd = row * d.heads + head;
    rows = d.tokens - token < kRows ? static_cast<int>(d.tokens - token) : kRows;
  }
};
/// Calls f(unit, whether there is such a unit) for each unit of the thread: all lanes of a warp take part in
/// its sums.
template <class F>
GPU_INLINE void each_column(const HeadDims& d, F f) {
  const int units = static_cast<int>(d.heads) * 3 * kHeadLanes;
  for (int first = 0; first < units; first += kThreads) {
    const int unit = first + static_cast<int>(threadIdx.x);
    f(Column(unit < units ? unit : 0, d), unit < units);
  }
}

/// y = gamma * x * r, r = (mean(x^2) + eps)^-1/2; g = gamma * dy: dx = r * (g - x * r^2 * mean(g * x)).
/// partial: gradients of the gammas, [samples, blocks, 2, 64]. `amax` (or null): raised to the largest magnitude
/// of dqkv.
template <class T>
__global__ void __launch_bounds__(kThreads)
    split_backward(T* dqkv, float* partial, const T* dq, const T* dk, const T* dv, const T* qkv,
                   const float* q_rstd, const float* k_rstd, const float* gamma_q, const float* gamma_k,
                   HeadDims d, uint32_t* amax) {
  GPU_SHARED(memory);
  let_next_kernel_start();
  float sums[2][8] = {};  // of the gammas of q and k
  Largest largest;
  each_column(d, [&](const Column& u, bool inside) {
    const T* const from = u.part == 0 ? dq : u.part == 1 ? dk : dv;
    const float* const rstd = u.part == 0 ? q_rstd : k_rstd;
    const bool given = inside && from != nullptr, normed = given && gamma_q != nullptr && u.part < 2;
    float gamma[8] = {}, sum[8] = {};
    if (normed) load8(gamma, (u.part == 0 ? gamma_q : gamma_k) + 8 * u.lane);
#pragma unroll 4
    for (int i = 0; i < u.rows; ++i) {
      float g[8] = {}, x[8] = {}, r = 0, dot = 0;
      if (given) load8(g, from + u.joint + i * kHeadDim);
      if (normed) {
        load8(x, qkv + u.qkv + i * u.stride);
        r = rstd[u.rstd + i * d.heads];
      }
      if (gamma_q != nullptr) {
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          x[j] *= r;
          const float s = g[j] * x[j];
          sum[j] += s;
          dot += s * gamma[j];
        }
        const float c = sum_lanes<kHeadLanes>(dot) * (1.0f / kHeadDim);
        if (normed)
#pragma unroll
          for (int j = 0; j < 8; ++j) g[j] = r * (g[j] * gamma[j] - x[j] * c);
      }
      if (!inside) continue;
      Pack<T> rounded;
      rounded.narrow(g);
      rounded.store(dqkv + u.qkv + i * u.stride);
      largest.see(rounded);
    }
#pragma unroll
    for (int of = 0; of < 2; ++of)
#pragma unroll
      for (int j = 0; j < 8; ++j) sums[of][j] += u.part == of ? sum[j] : 0;
  });
  float* const all = reinterpret_cast<float*>(memory);  // [threads, 16]
  if (amax) raise_amax(amax, largest, all + kThreads * 16);
  if (gamma_q == nullptr) return;
  store8(all + threadIdx.x * 16, sums[0]);
  store8(all + threadIdx.x * 16 + 8, sums[1]);
  __syncthreads();
  for (int i = threadIdx.x; i < 2 * kHeadDim; i += kThreads) {
    const int of = i / static_cast<int>(kHeadDim), channel = i % static_cast<int>(kHeadDim);
    float sum = 0;
    for (int t = channel / 8; t < kThreads; t += kHeadLanes) sum += all[t * 16 + of * 8 + channel % 8];
    partial[(static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x) * 2 * kHeadDim + i] = sum;
  }
}

template <class T>
void split_heads(T* q, T* k, T* v, float* q_rstd, float* k_rstd, const T* qkv, const float* gamma_q,
                 const float* gamma_k, const HeadDims& d) {
  launch(split<T>, static_cast<unsigned>(d.samples * d.tokens), kThreads, 0, q, k, v, q_rstd, k_rstd, qkv,
         gamma_q, gamma_k, d);
}

template <class T>
void split_heads_backward(T* dqkv, float* dgamma_q, float* dgamma_k, const T* dq, const T* dk, const T* dv,
                          const T* qkv, const float* q_rstd, const float* k_rstd, const float* gamma_q,
                          const float* gamma_k, const HeadDims& d, uint32_t* amax) {
  const unsigned count = blocks(d.tokens, kRows), samples = static_cast<unsigned>(d.samples);
  float* partial = gamma_q ? workspace<float>(d.samples * count * 2 * kHeadDim) : nullptr;
  launch(split_backward<T>, dim3(count, samples), kThreads, sizeof(float) * kThreads * 16 + kAmaxBytes, dqkv,
         partial, dq, dk, dv, qkv, q_rstd, k_rstd, gamma_q, gamma_k, d, amax);
  if (gamma_q)
    sum_chunks({{{dgamma_q, kHeadDim}, {dgamma_k, kHeadDim}}}, 2, partial, d.samples, count, kHeadDim);
}

}  // namespace

void fill_heads(Table& t) {
  t.each_type([]<class T>(Typed<T>& k) {
    k.split_heads = split_heads<T>;
    k.split_heads_backward = split_heads_backward<T>;
  });
}

}  // namespace orch::kernels::cuda
