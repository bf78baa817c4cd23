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
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    vf wi = load(w + i), mi = load(m + i), vi_ = load(v + i);
    update(wi, mi, vi_, load(grad + i), c);
    store(w + i, wi);
    store(m + i, mi);
    store(v + i, vi_);
    if constexpr (Ema) store(ema + i, c.ema * load(ema + i) + c.one_minus_ema * wi);
    if constexpr (Copy) store_exact(w16 + i, wi);
  }
  if (i < n) {
    const int64_t r = n - i;
    vf wi = load_n(w + i, r), mi = load_n(m + i, r), vi_ = load_n(v + i, r);
    update(wi, mi, vi_, load_n(grad + i, r), c);
    store_n(w + i, wi, r);
    store_n(m + i, mi, r);
    store_n(v + i, vi_, r);
    if constexpr (Ema) store_n(ema + i, c.ema * load_n(ema + i, r) + c.one_minus_ema * wi, r);
    if constexpr (Copy) store_exact_n(w16 + i, wi, r);
  }
}

void adamw(float* w, float* m, float* v, float* ema, bf16* w16, const float* grad, int64_t n,
           const AdamW* o) {
  const Constants c{splat(o->beta1),        splat(o->one_minus_beta1),
                    splat(o->beta2),        splat(o->one_minus_beta2),
                    splat(o->grad_scale),   splat(o->keep),
                    splat(o->step),         splat(o->root),
                    splat(o->eps),          splat(o->ema),
                    splat(o->one_minus_ema)};
  if (ema && w16) {
    run<true, true>(w, m, v, ema, w16, grad, n, c);
  } else if (ema) {
    run<true, false>(w, m, v, ema, w16, grad, n, c);
  } else if (w16) {
    run<false, true>(w, m, v, ema, w16, grad, n, c);
  } else {
    run<false, false>(w, m, v, ema, w16, grad, n, c);
  }
}

}  // namespace

void fill_adamw(Table& t) { t.raw.adamw = adamw; }

}  // namespace orch::kernels::ORCH_ISA
