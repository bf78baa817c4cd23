// Plain fp64 versions of the kernels, written for readability, not speed: the kernels are tested against
// them.
#pragma once
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/kernels.h"

namespace orch::reference {

using Vec = std::vector<double>;
using kernels::AttentionDims;
using kernels::HeadDims;
using kernels::kHeadDim;
using kernels::PatchDims;
using kernels::StreamDims;

constexpr double kEps = 1e-6;

// --- LayerNorm and modulation
struct LayerNorm {
  Vec y, mean, rstd;
};
inline LayerNorm layer_norm_modulate(const Vec& x, const Vec& shift, const Vec& scale, const StreamDims& d) {
  const int64_t rows = d.samples * d.tokens;
  LayerNorm o{Vec(rows * d.width), Vec(rows), Vec(rows)};
  for (int64_t r = 0; r < rows; ++r) {
    const double* xr = &x[r * d.width];
    const int64_t mod = r / d.tokens * d.mod_stride;
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < d.width; ++i) mean += xr[i];
    mean /= d.width;
    for (int64_t i = 0; i < d.width; ++i) variance += (xr[i] - mean) * (xr[i] - mean);
    o.mean[r] = mean;
    o.rstd[r] = 1 / std::sqrt(variance / d.width + kEps);
    for (int64_t i = 0; i < d.width; ++i) {
      o.y[r * d.width + i] = (xr[i] - mean) * o.rstd[r] * (1 + scale[mod + i]) + shift[mod + i];
    }
  }
  return o;
}

struct LayerNormGradient {
  Vec dx, dshift, dscale;  ///< dshift, dscale: [samples, mod_stride], zero outside the chunk
};
inline LayerNormGradient layer_norm_modulate_backward(const Vec& dy, const Vec& x, const Vec& scale,
                                                      const StreamDims& d) {
  const LayerNorm f = layer_norm_modulate(x, scale, scale, d);
  LayerNormGradient o{Vec(x.size()), Vec(d.samples * d.mod_stride), Vec(d.samples * d.mod_stride)};
  for (int64_t r = 0; r < d.samples * d.tokens; ++r) {
    const int64_t mod = r / d.tokens * d.mod_stride, at = r * d.width;
    double sum = 0, dot = 0;
    for (int64_t i = 0; i < d.width; ++i) {
      const double xhat = (x[at + i] - f.mean[r]) * f.rstd[r], g = dy[at + i] * (1 + scale[mod + i]);
      o.dshift[mod + i] += dy[at + i];
      o.dscale[mod + i] += dy[at + i] * xhat;
      sum += g;
      dot += g * xhat;
    }
    for (int64_t i = 0; i < d.width; ++i) {
      const double xhat = (x[at + i] - f.mean[r]) * f.rstd[r], g = dy[at + i] * (1 + scale[mod + i]);
      o.dx[at + i] = f.rstd[r] * (g - sum / d.width - xhat * dot / d.width);
    }
  }
  return o;
}

// --- gated residual
inline Vec gate_residual(const Vec& x, const Vec& y, const Vec& gate, const StreamDims& d) {
  Vec out(x.size());
  for (int64_t e = 0; e < static_cast<int64_t>(x.size()); ++e) {
    out[e] = x[e] + gate[e / (d.tokens * d.width) * d.mod_stride + e % d.width] * y[e];
  }
  return out;
}
struct GateGradient {
  Vec dy, dgate;
};
inline GateGradient gate_residual_backward(const Vec& dout, const Vec& y, const Vec& gate,
                                           const StreamDims& d) {
  GateGradient o{Vec(y.size()), Vec(d.samples * d.mod_stride)};
  for (int64_t e = 0; e < static_cast<int64_t>(y.size()); ++e) {
    const int64_t mod = e / (d.tokens * d.width) * d.mod_stride + e % d.width;
    o.dy[e] = gate[mod] * dout[e];
    o.dgate[mod] += dout[e] * y[e];
  }
  return o;
}

// --- heads
struct Heads {
  Vec q, k, v, q_rstd, k_rstd;  ///< q, k, v cover the joint sequence; positions of other streams stay zero
};
inline Heads split_heads(const Vec& qkv, const Vec* gamma_q, const Vec* gamma_k, const HeadDims& d) {
  const int64_t joint = d.samples * d.heads * d.joint_tokens * kHeadDim, rows = d.samples * d.tokens;
  Heads o{Vec(joint), Vec(joint), Vec(joint), Vec(rows * d.heads), Vec(rows * d.heads)};
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t h = 0; h < d.heads; ++h) {
      const int64_t to = ((r / d.tokens * d.heads + h) * d.joint_tokens + d.offset + r % d.tokens) * kHeadDim;
      for (int part = 0; part < 3; ++part) {
        const double* x = &qkv[((r * 3 + part) * d.heads + h) * kHeadDim];
        Vec& out = part == 0 ? o.q : part == 1 ? o.k : o.v;
        const Vec* gamma = part == 0 ? gamma_q : part == 1 ? gamma_k : nullptr;
        double rstd = 1;
        if (gamma) {
          double squares = 0;
          for (int64_t i = 0; i < kHeadDim; ++i) squares += x[i] * x[i];
          rstd = 1 / std::sqrt(squares / kHeadDim + kEps);
          (part == 0 ? o.q_rstd : o.k_rstd)[r * d.heads + h] = rstd;
        }
        for (int64_t i = 0; i < kHeadDim; ++i) out[to + i] = x[i] * rstd * (gamma ? (*gamma)[i] : 1);
      }
    }
  }
  return o;
}
struct HeadsGradient {
  Vec dqkv, dgamma_q, dgamma_k;
};
inline HeadsGradient split_heads_backward(const Vec* dq, const Vec& dk, const Vec& dv, const Vec& qkv,
                                          const Vec* gamma_q, const Vec* gamma_k, const HeadDims& d) {
  HeadsGradient o{Vec(qkv.size()), Vec(kHeadDim), Vec(kHeadDim)};
  for (int64_t r = 0; r < d.samples * d.tokens; ++r) {
    for (int64_t h = 0; h < d.heads; ++h) {
      const int64_t from =
          ((r / d.tokens * d.heads + h) * d.joint_tokens + d.offset + r % d.tokens) * kHeadDim;
      for (int part = 0; part < 3; ++part) {
        const int64_t at = ((r * 3 + part) * d.heads + h) * kHeadDim;
        const Vec* dy = part == 0 ? dq : part == 1 ? &dk : &dv;
        const Vec* gamma = part == 0 ? gamma_q : part == 1 ? gamma_k : nullptr;
        if (dy == nullptr) continue;
        if (gamma == nullptr) {
          for (int64_t i = 0; i < kHeadDim; ++i) o.dqkv[at + i] = (*dy)[from + i];
          continue;
        }
        double squares = 0, dot = 0;
        for (int64_t i = 0; i < kHeadDim; ++i) squares += qkv[at + i] * qkv[at + i];
        const double rstd = 1 / std::sqrt(squares / kHeadDim + kEps);
        Vec& dgamma = part == 0 ? o.dgamma_q : o.dgamma_k;
        for (int64_t i = 0; i < kHeadDim; ++i) {
          dgamma[i] += (*dy)[from + i] * qkv[at + i] * rstd;
          dot += (*dy)[from + i] * (*gamma)[i] * qkv[at + i];
        }
        for (int64_t i = 0; i < kHeadDim; ++i) {
          o.dqkv[at + i] =
              rstd * ((*dy)[from + i] * (*gamma)[i] - qkv[at + i] * rstd * rstd * dot / kHeadDim);
        }
      }
    }
  }
  return o;
}

// --- attention
struct Attention {
  Vec out;  ///< [samples, tokens, heads * 64]; rows before first_query are zero
  Vec lse, p;
  double max_abs_logit[2] = {}, entropy_sum[2] = {};  ///< by the stream of the query
};
inline Attention attention(const Vec& q, const Vec& k, const Vec& v, const AttentionDims& d) {
  const int64_t s = d.tokens, width = d.heads * kHeadDim;
  Attention o{Vec(d.samples * s * width), Vec(d.samples * d.heads * s), Vec(d.samples * d.heads * s * s)};
  for (int64_t bh = 0; bh < d.samples * d.heads; ++bh) {
    for (int64_t i = d.first_query; i < s; ++i) {
      double* p = &o.p[(bh * s + i) * s];
      double max = -INFINITY, sum = 0;
      const int stream = i >= d.split;
      for (int64_t j = 0; j < s; ++j) {
        p[j] = 0;
        for (int64_t c = 0; c < kHeadDim; ++c)
          p[j] += q[(bh * s + i) * kHeadDim + c] * k[(bh * s + j) * kHeadDim + c];
        p[j] /= 8;
        max = std::max(max, p[j]);
        o.max_abs_logit[stream] = std::max(o.max_abs_logit[stream], std::abs(p[j]));
      }
      for (int64_t j = 0; j < s; ++j) sum += std::exp(p[j] - max);
      const double lse = max + std::log(sum);
      o.lse[bh * s + i] = lse;
      for (int64_t j = 0; j < s; ++j) {
        const double logit = p[j];
        p[j] = std::exp(logit - lse);
        o.entropy_sum[stream] -= p[j] * (logit - lse);
        for (int64_t c = 0; c < kHeadDim; ++c) {
          o.out[((bh / d.heads * s + i) * d.heads + bh % d.heads) * kHeadDim + c] +=
              p[j] * v[(bh * s + j) * kHeadDim + c];
        }
      }
    }
  }
  return o;
}
struct AttentionGradient {
  Vec dq, dk, dv;
};
inline AttentionGradient attention_backward(const Vec& dout, const Vec& q, const Vec& k, const Vec& v,
                                            const AttentionDims& d) {
  const Attention f = attention(q, k, v, d);
  const int64_t s = d.tokens;
  AttentionGradient o{Vec(q.size()), Vec(k.size()), Vec(v.size())};
  for (int64_t bh = 0; bh < d.samples * d.heads; ++bh) {
    for (int64_t i = d.first_query; i < s; ++i) {
      const double* p = &f.p[(bh * s + i) * s];
      const int64_t row = ((bh / d.heads * s + i) * d.heads + bh % d.heads) * kHeadDim,
                    at = (bh * s + i) * kHeadDim;
      double delta = 0;
      for (int64_t c = 0; c < kHeadDim; ++c) delta += dout[row + c] * f.out[row + c];
      for (int64_t j = 0; j < s; ++j) {
        const int64_t to = (bh * s + j) * kHeadDim;
        double dp = 0;
        for (int64_t c = 0; c < kHeadDim; ++c) dp += dout[row + c] * v[to + c];
        const double ds = p[j] * (dp - delta) / 8;
        for (int64_t c = 0; c < kHeadDim; ++c) {
          o.dq[at + c] += ds * k[to + c];
          o.dk[to + c] += ds * q[at + c];
          o.dv[to + c] += p[j] * dout[row + c];
        }
      }
    }
  }
  return o;
}

// --- elementwise
inline double gelu(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}
inline double gelu_slope(double x) {
  const double u = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x), t = std::tanh(u);
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * std::sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
}
inline double silu(double x) { return x / (1 + std::exp(-x)); }
inline double silu_slope(double x) {
  const double s = 1 / (1 + std::exp(-x));
  return s * (1 + x * (1 - s));
}

// --- Philox4x32-10 and Box-Muller
struct Words {
  uint32_t w[4];
};
inline Words philox(Words c, uint32_t k0, uint32_t k1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * c.w[0], b = uint64_t{0xCD9E8D57} * c.w[2];
    c = {{static_cast<uint32_t>(b >> 32) ^ c.w[1] ^ k0, static_cast<uint32_t>(b),
          static_cast<uint32_t>(a >> 32) ^ c.w[3] ^ k1, static_cast<uint32_t>(a)}};
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return c;
}
inline Vec normal(const kernels::DrawKey& key, int64_t n) {
  Vec out(n);
  for (int64_t i = 0; i < n; ++i) {
    const Words w = philox({{static_cast<uint32_t>(i / 4), static_cast<uint32_t>(key.sample_id), key.step,
                             key.stream << 24 | static_cast<uint32_t>(key.sample_id >> 32)}},
                           static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32));
    const int pair = i % 4 / 2;
    const double u1 = (w.w[2 * pair] + 0.5) / 4294967296.0, u2 = (w.w[2 * pair + 1] + 0.5) / 4294967296.0;
    const double r = std::sqrt(-2 * std::log(u1)), angle = 2 * M_PI * u2;
    out[i] = i % 2 == 0 ? r * std::cos(angle) : r * std::sin(angle);
  }
  return out;
}

}  // namespace orch::reference
