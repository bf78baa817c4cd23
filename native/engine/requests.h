// Requests to an engine and their results, the same on the CPU and on a device.
#pragma once
#include <cstdint>
#include <utility>
#include <vector>

#include "../kernels/kernels.h"

namespace orch {

struct AttentionSummary {
  float max_abs_logit;
  double mean_entropy;
};
/// Summary of every attention over the slots of a step; `by_slot` has one entry per attention for each slot.
std::vector<AttentionSummary> summarize(const std::vector<std::vector<kernels::AttentionStats>>& by_slot);

/// One step of AdamW (Loshchilov and Hutter, ICLR 2019): the gradient is multiplied by grad_scale (clipping),
/// m and v are its moments with bias correction, and weight_decay is decoupled. ema_decay is that of the
/// moving average of the weights; 1 leaves it unchanged.
struct UpdateRequest {
  int64_t step;  ///< 1 for the first update
  double lr, beta1, beta2, eps, weight_decay, grad_scale, ema_decay;
  kernels::AdamW constants() const;
};

using Ranges = std::vector<std::pair<int64_t, int64_t>>;
/// Elements of [0, length) outside the frozen ranges. These are whole parameters, ascending and disjoint;
/// each begins at a parameter. Throws Error(ERR_NATIVE_ARGUMENT).
Ranges outside(const Ranges& frozen, int64_t length);

}  // namespace orch
