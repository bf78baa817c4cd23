// Updates of the weights by every optimizer, with gradient clipping, the exponential moving average of the
// weights and the bf16 copy, in one pass over memory: for AdamW, 38 bytes per parameter.
#include "families.h"

namespace orch::kernels::cuda {
namespace {

constexpr int kThreads = 256;

struct SquareRoot {
  GPU_INLINE float operator()(float x) const { return sqrtf(x); }
};

template <class Rule>
struct Moments {
  float* at[optim::kMomentsOf<Rule>];
};

/// Elements [i, i + Count) of the arrays.
template <int Count, class Rule>
GPU_INLINE void update_elements(float* w, const Moments<Rule>& m, float* ema, bf16* w16, const float* grad,
                                int64_t i, const optim::Update& o) {
  constexpr int kMoments = optim::kMomentsOf<Rule>;
  const auto read = [i](float (&to)[Count], const float* from) {
    if constexpr (Count == 4) {
      const float4 v = *reinterpret_cast<const float4*>(from + i);
      to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
    } else {
      to[0] = from[i];
    }
  };
  const auto write = [i](float* to, const float (&from)[Count]) {
    if constexpr (Count == 4)
      *reinterpret_cast<float4*>(to + i) = float4{from[0], from[1], from[2], from[3]};
    else
      to[i] = from[0];
  };
  typename Rule::template Factors<float> factors;
  __builtin_memcpy(&factors, o.rule, sizeof factors);
  float wi[Count], mi[kMoments][Count], g[Count], e[Count] = {};
  read(wi, w);
  for (int j = 0; j < kMoments; ++j) read(mi[j], m.at[j]);
  read(g, grad);
  if (ema) read(e, ema);
  for (int k = 0; k < Count; ++k) {
    float own[kMoments];
    for (int j = 0; j < kMoments; ++j) own[j] = mi[j][k];
    Rule::update(wi[k], own, g[k] * o.grad_scale, factors, SquareRoot{});
    for (int j = 0; j < kMoments; ++j) mi[j][k] = own[j];
    e[k] = o.ema * e[k] + o.one_minus_ema * wi[k];
  }
  write(w, wi);
  for (int j = 0; j < kMoments; ++j) write(m.at[j], mi[j]);
  if (ema) write(ema, e);
  if (!w16) return;
  if constexpr (Count == 4)
    *reinterpret_cast<uint2*>(w16 + i) = uint2{pack2(wi[0], wi[1]), pack2(wi[2], wi[3])};
  else
    w16[i] = narrow<bf16>(wi[0]);
}

template <class Rule>
__global__ void __launch_bounds__(kThreads)
    run(float* w, Moments<Rule> m, float* ema, bf16* w16, const float* grad, int64_t n,
        const optim::Update* o) {
  const optim::Update own = *o;
  int64_t i = 4 * (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x);
  if (i + 4 <= n) return update_elements<4>(w, m, ema, w16, grad, i, own);
  for (; i < n; ++i) update_elements<1>(w, m, ema, w16, grad, i, own);
}

template <class Rule>
void update(float* w, float* const* moments, float* ema, bf16* w16, const float* grad, int64_t n,
            const optim::Update* o) {
  Moments<Rule> m;
  for (int j = 0; j < optim::kMomentsOf<Rule>; ++j) m.at[j] = moments[j];
  launch(run<Rule>, blocks(n, 4 * kThreads), kThreads, 0, w, m, ema, w16, grad, n, o);
}

}  // namespace

void fill_optimizers(Table& t) {
  optim::each_rule([&]<class Rule>(int index) { t.raw.update[index] = update<Rule>; });
}

}  // namespace orch::kernels::cuda
