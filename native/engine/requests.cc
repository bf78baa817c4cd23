#include "requests.h"

#include <algorithm>
#include <cmath>

#include "../core/elementary.h"
#include "../core/error.h"

namespace orch {

std::vector<AttentionSummary> summarize(const std::vector<std::vector<kernels::AttentionStats>>& by_slot) {
  std::vector<AttentionSummary> all;
  for (size_t a = 0; a < by_slot.at(0).size(); ++a) {
    AttentionSummary summary{0, 0};
    int64_t rows = 0;
    for (const auto& slot : by_slot) {
      summary.max_abs_logit = std::max(summary.max_abs_logit, slot[a].max_abs_logit);
      summary.mean_entropy += slot[a].entropy_sum;
      rows += slot[a].rows;
    }
    summary.mean_entropy /= static_cast<double>(rows);
    all.push_back(summary);
  }
  return all;
}

kernels::AdamW UpdateRequest::constants() const {
  const auto constant = [](double x) { return static_cast<float>(x); };
  return {constant(beta1),
          constant(1 - beta1),
          constant(beta2),
          constant(1 - beta2),
          constant(grad_scale),
          constant(1 - lr * weight_decay),
          constant(lr / elementary::one_minus_power(beta1, step)),
          constant(1 / std::sqrt(elementary::one_minus_power(beta2, step))),
          constant(eps),
          constant(ema_decay),
          constant(1 - ema_decay)};
}

Ranges outside(const Ranges& frozen, int64_t length) {
  Ranges rest;
  int64_t at = 0, last = 0;
  for (const auto& [from, to] : frozen) {
    if (from < last || to < from || to > length)
      throw Error("ERR_NATIVE_ARGUMENT",
                  "freeze: ranges must be ascending, disjoint and within the parameters");
    if (from > at) rest.emplace_back(at, from);
    // A parameter begins at a multiple of 16 elements, as a device's vector accesses require; the padding
    // before it belongs to no parameter.
    at = (to + 15) / 16 * 16;
    last = to;
  }
  if (at < length) rest.emplace_back(at, length);
  return rest;
}

}  // namespace orch
