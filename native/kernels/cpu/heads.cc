// Splits rows of qkv into the heads of the joint sequence, with RMSNorm of q and k; and the inverse.
#include "families.h"

namespace orch::kernels::ORCH_ISA {
namespace {

constexpr float kEps = 1e-6f;
constexpr int kVectors = static_cast<int>(kHeadDim) / kLanes;

template <class T>
ORCH_INLINE void load_head(vf (&x)[kVectors], const T* p) {
  for (int i = 0; i < kVectors; ++i) x[i] = load(p + i * kLanes);
}
template <class T>
ORCH_INLINE void store_head(T* p, const vf (&x)[kVectors]) {
  for (int i = 0; i < kVectors; i += 2) store2(p + i * kLanes, x[i], x[i + 1]);
}
ORCH_INLINE vf dot_head(const vf (&a)[kVectors], const vf (&b)[kVectors]) {
  vf s = a[0] * b[0];
  for (int i = 1; i < kVectors; ++i) s += a[i] * b[i];
  return spread_sum(s);
}

template <class T>
ORCH_INLINE void norm_head(T* out, float* rstd, const T* in, const vf (&gamma)[kVectors]) {
  vf x[kVectors];
  load_head(x, in);
  const vf r = inverse_sqrt(dot_head(x, x) * splat(1.0f / kHeadDim) + splat(kEps));
  *rstd = r[0];
  for (int i = 0; i < kVectors; ++i) x[i] = x[i] * r * gamma[i];
  store_head(out, x);
}

template <class T>
ORCH_INLINE void copy_head(T* out, const T* in) {
  std::memcpy(out, in, kHeadDim * sizeof(T));
}

/// Without a norm, gamma is null; it is loaded once for all heads.
struct Gamma {
  vf v[kVectors] = {};
  explicit Gamma(const float* gamma) {
    if (gamma) load_head(v, gamma);
  }
};

template <class T>
void split_heads(T* q, T* k, T* v, float* q_rstd, float* k_rstd, const T* qkv, const float* gamma_q,
                 const float* gamma_k, const HeadDims& d) {
  const int64_t width = d.heads * kHeadDim;
  const bool norm = gamma_q != nullptr;
  const Gamma gq(gamma_q), gk(gamma_k);
  for (int64_t b = 0; b < d.samples; ++b) {
    for (int64_t n = 0; n < d.tokens; ++n) {
      const int64_t row = b * d.tokens + n;
      for (int64_t h = 0; h < d.heads; ++h) {
        const int64_t to = ((b * d.heads + h) * d.joint_tokens + d.offset + n) * kHeadDim;
        const T* from = qkv + row * 3 * width + h * kHeadDim;
        if (norm) {
          norm_head(q + to, q_rstd + row * d.heads + h, from, gq.v);
          norm_head(k + to, k_rstd + row * d.heads + h, from + width, gk.v);
        } else {
          copy_head(q + to, from);
          copy_head(k + to, from + width);
        }
        copy_head(v + to, from + 2 * width);
      }
    }
  }
}

/// y = gamma * x * r, r = (mean(x^2) + eps)^-1/2; g = gamma * dy: dx = r * (g - x * r^2 * mean(g * x)).
template <class T>
ORCH_INLINE void norm_head_backward(T* out, vf (&dgamma)[kVectors], const T* dy, const T* in, float rstd,
                                    const vf (&gamma)[kVectors]) {
  vf x[kVectors], g[kVectors];
  load_head(x, in);
  load_head(g, dy);
  const vf r = splat(rstd);
  for (int i = 0; i < kVectors; ++i) {
    x[i] *= r;
    dgamma[i] += g[i] * x[i];
    g[i] *= gamma[i];
  }
  const vf c = dot_head(g, x) * splat(1.0f / kHeadDim);
  for (int i = 0; i < kVectors; ++i) g[i] = r * (g[i] - x[i] * c);
  store_head(out, g);
}

template <class T>
void split_heads_backward(T* dqkv, float* dgamma_q, float* dgamma_k, const T* dq, const T* dk, const T* dv,
                          const T* qkv, const float* q_rstd, const float* k_rstd, const float* gamma_q,
                          const float* gamma_k, const HeadDims& d, uint32_t* /*amax*/) {
  const int64_t width = d.heads * kHeadDim;
  const bool norm = gamma_q != nullptr;
  const Gamma gq(gamma_q), gk(gamma_k);
  for (int64_t b = 0; b < d.samples; ++b) {
    vf sum_q[kVectors] = {}, sum_k[kVectors] = {};
    for (int64_t n = 0; n < d.tokens; ++n) {
      const int64_t row = b * d.tokens + n;
      const T* in = qkv + row * 3 * width;
      T* out = dqkv + row * 3 * width;
      for (int64_t h = 0; h < d.heads; ++h) {
        const int64_t from = ((b * d.heads + h) * d.joint_tokens + d.offset + n) * kHeadDim;
        const int64_t to = h * kHeadDim;
        if (dq == nullptr) {
          std::memset(out + to, 0, kHeadDim * sizeof(T));
        } else if (norm) {
          norm_head_backward(out + to, sum_q, dq + from, in + to, q_rstd[row * d.heads + h], gq.v);
        } else {
          copy_head(out + to, dq + from);
        }
        if (norm) {
          norm_head_backward(out + width + to, sum_k, dk + from, in + width + to, k_rstd[row * d.heads + h],
                             gk.v);
        } else {
          copy_head(out + width + to, dk + from);
        }
        copy_head(out + 2 * width + to, dv + from);
      }
    }
    if (norm) {
      store_head(dgamma_q + b * kHeadDim, sum_q);
      store_head(dgamma_k + b * kHeadDim, sum_k);
    }
  }
}

}  // namespace

void fill_heads(Table& t) {
  t.each_type([]<class T>(Typed<T>& k) {
    k.split_heads = split_heads<T>;
    k.split_heads_backward = split_heads_backward<T>;
  });
}

}  // namespace orch::kernels::ORCH_ISA
