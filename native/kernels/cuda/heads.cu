// Splits rows of qkv into the heads of the joint sequence, with RMSNorm of q and k; and the inverse. Eight
// threads process a head of a token, eight channels each.
#include "families.h"

namespace orch::kernels::cuda {
namespace {

constexpr int kThreads = 192, kHeadLanes = 8;
constexpr float kEps = 1e-6f;
constexpr int64_t kRows = 8;  ///< tokens per block in the backward pass

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

/// y = gamma * x * r, r = (mean(x^2) + eps)^-1/2; g = gamma * dy: dx = r * (g - x * r^2 * mean(g * x)). Rows
/// [blockIdx.x * kRows, ...) of sample blockIdx.y. partial: gradients of the gammas, [samples, blocks, 2,
/// 64].
template <class T>
__global__ void __launch_bounds__(kThreads)
    split_backward(T* dqkv, float* partial, const T* dq, const T* dk, const T* dv, const T* qkv,
                   const float* q_rstd, const float* k_rstd, const float* gamma_q, const float* gamma_k,
                   HeadDims d) {
  GPU_SHARED(memory);
  const int units = static_cast<int>(d.heads) * 3 * kHeadLanes, lane = threadIdx.x % kHeadLanes;
  const int64_t start = blockIdx.y * d.tokens + blockIdx.x * kRows, end = (blockIdx.y + 1) * d.tokens;
  float sum_q[8] = {}, sum_k[8] = {};
  for (int64_t row = start; row < start + kRows && row < end; ++row)
    for (int first = 0; first < units; first += kThreads) {
      const int unit = first + static_cast<int>(threadIdx.x);
      const bool inside = unit < units;
      const Unit u = place(inside ? unit : 0, row, d);
      const T* from = u.part == 0 ? dq : u.part == 1 ? dk : dv;
      float g[8] = {};
      if (inside && from) load8(g, from + u.joint);
      if (gamma_q != nullptr) {
        const bool normed = inside && from && u.part < 2;
        float x[8] = {}, gamma[8] = {}, r = 0, dot = 0;
        if (normed) {
          load8(x, qkv + (row * units + unit) * 8);
          load8(gamma, (u.part == 0 ? gamma_q : gamma_k) + lane * 8);
          r = (u.part == 0 ? q_rstd : k_rstd)[row * d.heads + u.head];
        }
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          x[j] *= r;
          const float s = g[j] * x[j];
          if (u.part == 0)
            sum_q[j] += s;
          else
            sum_k[j] += s;  // v: x is zero
          dot += s * gamma[j];
        }
        const float c = sum_lanes<kHeadLanes>(dot) * (1.0f / kHeadDim);
        if (normed)
#pragma unroll
          for (int j = 0; j < 8; ++j) g[j] = r * (g[j] * gamma[j] - x[j] * c);
      }
      if (inside) store8(dqkv + (row * units + unit) * 8, g);
    }
  if (gamma_q == nullptr) return;
  float* const all = reinterpret_cast<float*>(memory);  // [threads, 16]
  store8(all + threadIdx.x * 16, sum_q);
  store8(all + threadIdx.x * 16 + 8, sum_k);
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
                          const float* gamma_k, const HeadDims& d) {
  const unsigned count = blocks(d.tokens, kRows), samples = static_cast<unsigned>(d.samples);
  float* partial = gamma_q ? workspace<float>(d.samples * count * 2 * kHeadDim) : nullptr;
  launch(split_backward<T>, dim3(count, samples), kThreads, sizeof(float) * kThreads * 16, dqkv, partial, dq,
         dk, dv, qkv, q_rstd, k_rstd, gamma_q, gamma_k, d);
  if (gamma_q) sum_chunks(dgamma_q, dgamma_k, partial, d.samples, count, kHeadDim, kHeadDim);
}

}  // namespace

void fill_heads(Table& t) {
  t.each_type([]<class T>(Typed<T>& k) {
    k.split_heads = split_heads<T>;
    k.split_heads_backward = split_heads_backward<T>;
  });
}

}  // namespace orch::kernels::cuda
