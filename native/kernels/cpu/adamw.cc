// AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019) with gradient clipping,
// the exponential moving average of the weights and the bf16 copy, in one pass over memory.
#include "families.h"

namespace orch::kernels::ORCH_ISA {
namespace {

struct Constants {
  vf beta1, one_minus_beta1, beta2, one_minus_beta2, grad_scale, keep, step, root, eps, ema, one_minus_ema;
};

/// w -= lr * (m / c1 / (sqrt(v / c2) + eps) + decay * w)
ORCH_INLINE void update(vf& w, vf& m, vf& v, vf grad, const Constants& c) {
  const vf g = grad * c.grad_scale;
  m = c.beta1 * m + c.one_minus_beta1 * g;
  v = c.beta2 * v + c.one_minus_beta2 * (g * g);
  w = w * c.keep - c.step * m / (sqrt_of(v) * c.root + c.eps);
}

template <bool Ema, bool Copy>
void run(float* w, float* m, float* v, float* ema, bf16* w16, const float* grad, int64_t n,
         const Constants& c) {
  each_vector(n, [&](auto at) {
    vf wi = at(w), mi = at(m), vi_ = at(v);
    update(wi, mi, vi_, at(grad), c);
    at.put(w, wi);
    at.put(m, mi);
    at.put(v, vi_);
    if constexpr (Ema) at.put(ema, c.ema * at(ema) + c.one_minus_ema * wi);
    if constexpr (Copy) at.put_exact(w16, wi);
  });
}

void adamw(float* w, float* m, float* v, float* ema, bf16* w16, const float* grad, int64_t n,
           const AdamW* o) {
  const Constants c{splat(o->beta1),        splat(o->one_minus_beta1),
                    splat(o->beta2),        splat(o->one_minus_beta2),
                    splat(o->grad_scale),   splat(o->keep),
                    splat(o->step),         splat(o->root),
                    splat(o->eps),          splat(o->ema),
                    splat(o->one_minus_ema)};
  const auto with = ema   ? (w16 ? run<true, true> : run<true, false>)
                    : w16 ? run<false, true>
                          : run<false, false>;
  with(w, m, v, ema, w16, grad, n, c);
}

}  // namespace

void fill_adamw(Table& t) { t.raw.adamw = adamw; }

}  // namespace orch::kernels::ORCH_ISA
