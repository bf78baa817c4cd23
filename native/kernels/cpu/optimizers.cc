// Updates of the weights by every optimizer, with gradient clipping, the exponential moving average of the
// weights and the bf16 copy, in one pass over memory.
#include "families.h"

namespace orch::kernels::ORCH_ISA {
namespace {

struct SquareRoot {
  vf operator()(vf x) const { return sqrt_of(x); }
};

template <class Rule, bool Ema, bool Copy>
void run(float* w, float* const* moments, float* ema, bf16* w16, const float* grad, int64_t n,
         const optim::Update& o) {
  constexpr int kMoments = optim::kMomentsOf<Rule>;
  using Factors = typename Rule::template Factors<vf>;
  Factors factors;
  for (size_t i = 0; i < sizeof factors / sizeof(vf); ++i)
    reinterpret_cast<vf*>(&factors)[i] = splat(o.rule[i]);
  const vf grad_scale = splat(o.grad_scale), keep = splat(o.ema), take = splat(o.one_minus_ema);
  float* moment[kMoments];  // stores might change the array that the caller passed
  for (int j = 0; j < kMoments; ++j) moment[j] = moments[j];
  each_vector(n, [=](auto at) {
    vf wi = at(w), mi[kMoments];
    for (int j = 0; j < kMoments; ++j) mi[j] = at(moment[j]);
    Rule::update(wi, mi, at(grad) * grad_scale, factors, SquareRoot{});
    at.put(w, wi);
    for (int j = 0; j < kMoments; ++j) at.put(moment[j], mi[j]);
    if constexpr (Ema) at.put(ema, keep * at(ema) + take * wi);
    if constexpr (Copy) at.put_exact(w16, wi);
  });
}

template <class Rule>
void update(float* w, float* const* moments, float* ema, bf16* w16, const float* grad, int64_t n,
            const optim::Update* o) {
  const auto variant = ema && w16 ? run<Rule, true, true>
                       : ema      ? run<Rule, true, false>
                       : w16      ? run<Rule, false, true>
                                  : run<Rule, false, false>;
  variant(w, moments, ema, w16, grad, n, *o);
}

}  // namespace

void fill_optimizers(Table& t) {
  optim::each_rule([&]<class Rule>(int index) { t.raw.update[index] = update<Rule>; });
}

}  // namespace orch::kernels::ORCH_ISA
