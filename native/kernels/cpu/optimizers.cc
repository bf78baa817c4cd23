// Updates of the weights by every optimizer, with gradient clipping, the exponential moving average of the
// weights and the bf16 copy, in one pass over memory.
#include "../../optim/undo_log.h"
#include "families.h"

namespace orch::kernels::ORCH_ISA {
namespace {

struct SquareRoot {
  vf operator()(vf x) const { return sqrt_of(x); }
};

/// Elements between what is written and what is prefetched. Without it updates of states that the caches do
/// not hold take 2 to 20 % longer, and logged ones, whose stores leave fewer places in the processor's queue
/// for loads, another 15 % (Zen 4; bench/results/2026-11-27-cpu-zen4.md).
constexpr int64_t kAhead = 128;

template <class Rule, bool Ema, bool Copy, bool Logged>
void run(float* w, float* const* moments, float* ema, bf16* w16, const float* grad, int64_t n,
         const optim::Update& o, optim::UndoLog* log) {
  constexpr int kMoments = optim::kMomentsOf<Rule>;
  static_assert(kMoments + 2 <= optim::UndoLog::kMostArrays && kLanes <= optim::UndoLog::kMostLanes);
  using Factors = typename Rule::template Factors<vf>;
  Factors factors;
  for (size_t i = 0; i < sizeof factors / sizeof(vf); ++i)
    reinterpret_cast<vf*>(&factors)[i] = splat(o.rule[i]);
  const vf grad_scale = splat(o.grad_scale), keep = splat(o.ema), take = splat(o.one_minus_ema);
  float* moment[kMoments];  // stores might change the array that the caller passed
  for (int j = 0; j < kMoments; ++j) moment[j] = moments[j];
  if constexpr (Logged) log->set_lanes(kLanes);
  each_vector(n, [=](auto at) {
    vf wi = at(w), mi[kMoments], ei{};
    for (int j = 0; j < kMoments; ++j) mi[j] = at(moment[j]);
    if constexpr (Ema) ei = at(ema);
    __builtin_prefetch(w + at.i + kAhead, 1);
    for (int j = 0; j < kMoments; ++j) __builtin_prefetch(moment[j] + at.i + kAhead, 1);
    if constexpr (Ema) __builtin_prefetch(ema + at.i + kAhead, 1);
    if constexpr (Copy) __builtin_prefetch(w16 + at.i + kAhead, 1);
    __builtin_prefetch(grad + at.i + kAhead);
    if constexpr (Logged) {
      const int64_t vector = at.i / kLanes;
      store(log->former(vector, 0), wi);
      for (int j = 0; j < kMoments; ++j) store(log->former(vector, static_cast<size_t>(j) + 1), mi[j]);
      if constexpr (Ema) store(log->former(vector, kMoments + 1), ei);
      log->begin(vector, at.i);
    }
    Rule::update(wi, mi, at(grad) * grad_scale, factors, SquareRoot{});
    at.put(w, wi);
    for (int j = 0; j < kMoments; ++j) at.put(moment[j], mi[j]);
    if constexpr (Ema) at.put(ema, keep * ei + take * wi);
    if constexpr (Copy) at.put_exact(w16, wi);
  });
}

template <class Rule, bool Logged>
void update(float* w, float* const* moments, float* ema, bf16* w16, const float* grad, int64_t n,
            const optim::Update* o, optim::UndoLog* log) {
  const auto variant = ema && w16 ? run<Rule, true, true, Logged>
                       : ema      ? run<Rule, true, false, Logged>
                       : w16      ? run<Rule, false, true, Logged>
                                  : run<Rule, false, false, Logged>;
  variant(w, moments, ema, w16, grad, n, *o, log);
}

template <class Rule>
void update_alone(float* w, float* const* moments, float* ema, bf16* w16, const float* grad, int64_t n,
                  const optim::Update* o) {
  update<Rule, false>(w, moments, ema, w16, grad, n, o, nullptr);
}

}  // namespace

void fill_optimizers(Table& t) {
  optim::each_rule([&]<class Rule>(int index) {
    t.raw.update[index] = update_alone<Rule>;
    t.raw.logged_update[index] = update<Rule, true>;
  });
}

}  // namespace orch::kernels::ORCH_ISA
