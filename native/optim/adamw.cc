#include "adamw.h"

#include <cmath>

#include "../core/elementary.h"

namespace orch::optim {

AdamW::Factors<float> AdamW::factors(const UpdateRequest& u) {
  const auto factor = [](double x) { return static_cast<float>(x); };
  return {factor(u.beta1),
          factor(1 - u.beta1),
          factor(u.beta2),
          factor(1 - u.beta2),
          factor(1 - u.lr * u.weight_decay),
          factor(u.lr / elementary::one_minus_power(u.beta1, u.step)),
          factor(1 / std::sqrt(elementary::one_minus_power(u.beta2, u.step))),
          factor(u.eps)};
}

}  // namespace orch::optim
