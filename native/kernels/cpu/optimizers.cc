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
  float* moment[kMoments];
  for (int j = 0; j < kMoments; ++j) moment[j] = moments[j];
  const auto update = [&](int64_t i, auto read, auto write, auto write16) __attribute__((always_inline)) {
    vf wi = read(w + i), mi[kMoments];
    for (int j = 0; j < kMoments; ++j) mi[j] = read(moment[j] + i);
    const vf g = read(grad + i) * grad_scale;
    Rule::update(wi, mi, g, factors, SquareRoot{});
    write(w + i, wi);
    for (int j = 0; j < kMoments; ++j) write(moment[j] + i, mi[j]);
    if constexpr (Ema) write(ema + i, keep * read(ema + i) + take * wi);
    if constexpr (Copy) write16(w16 + i, wi);
  };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    update(
        i, [](const float* p) { return load(p); }, [](float* p, vf x) { store(p, x); },
        [](bf16* p, vf x) { store_exact(p, x); });
  const int64_t rest = n - i;
  if (rest > 0)
    update(
        i, [rest](const float* p) { return load_n(p, rest); },
        [rest](float* p, vf x) { store_n(p, x, rest); },
        [rest](bf16* p, vf x) { store_exact_n(p, x, rest); });
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

template <class... Rules>
void fill(Table& t, optim::List<Rules...>) {
  int i = 0;
  ((t.raw.update[i++] = update<Rules>), ...);
}

}  // namespace

void fill_optimizers(Table& t) { fill(t, optim::All{}); }

}  // namespace orch::kernels::ORCH_ISA
