// AdamW with gradient clipping, the exponential moving average of the weights and the bf16 copy, in one pass
// over memory: 38 bytes per parameter.
#include "families.h"

namespace orch::kernels::cuda {
namespace {

constexpr int kThreads = 256;

struct Weight {
  float w, m, v;
};
GPU_INLINE void update(Weight& s, float grad, const AdamW& c) {
  const float g = grad * c.grad_scale;
  s.m = c.beta1 * s.m + c.one_minus_beta1 * g;
  s.v = c.beta2 * s.v + c.one_minus_beta2 * (g * g);
  s.w = s.w * c.keep - c.step * s.m / (sqrtf(s.v) * c.root + c.eps);
}

__global__ void __launch_bounds__(kThreads)
    run(float* w, float* m, float* v, float* ema, bf16* w16, const float* grad, int64_t n, const AdamW* o) {
  const AdamW c = *o;
  const int64_t i = 4 * (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x);
  if (i + 4 <= n) {
    float4 wi = *reinterpret_cast<float4*>(w + i), mi = *reinterpret_cast<float4*>(m + i),
           vi = *reinterpret_cast<float4*>(v + i);
    const float4 g = *reinterpret_cast<const float4*>(grad + i);
    float4 e = {};
    if (ema) e = *reinterpret_cast<float4*>(ema + i);
    const auto one = [&](float& ww, float& mm, float& vv, float& ee, float gg) {
      Weight s{ww, mm, vv};
      update(s, gg, c);
      ww = s.w;
      mm = s.m;
      vv = s.v;
      ee = c.ema * ee + c.one_minus_ema * s.w;
    };
    one(wi.x, mi.x, vi.x, e.x, g.x);
    one(wi.y, mi.y, vi.y, e.y, g.y);
    one(wi.z, mi.z, vi.z, e.z, g.z);
    one(wi.w, mi.w, vi.w, e.w, g.w);
    *reinterpret_cast<float4*>(w + i) = wi;
    *reinterpret_cast<float4*>(m + i) = mi;
    *reinterpret_cast<float4*>(v + i) = vi;
    if (ema) *reinterpret_cast<float4*>(ema + i) = e;
    if (w16) *reinterpret_cast<uint2*>(w16 + i) = uint2{pack2(wi.x, wi.y), pack2(wi.z, wi.w)};
  } else {
    for (int64_t j = i; j < n; ++j) {
      Weight s{w[j], m[j], v[j]};
      update(s, grad[j], c);
      w[j] = s.w;
      m[j] = s.m;
      v[j] = s.v;
      if (ema) ema[j] = c.ema * ema[j] + c.one_minus_ema * s.w;
      if (w16) w16[j] = narrow<bf16>(s.w);
    }
  }
}

void adamw(float* w, float* m, float* v, float* ema, bf16* w16, const float* grad, int64_t n,
           const AdamW* o) {
  launch(run, blocks(n, 4 * kThreads), kThreads, 0, w, m, v, ema, w16, grad, n, o);
}

}  // namespace

void fill_adamw(Table& t) { t.raw.adamw = adamw; }

}  // namespace orch::kernels::cuda
