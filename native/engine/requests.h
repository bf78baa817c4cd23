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

using optim::UpdateRequest;

using Ranges = std::vector<std::pair<int64_t, int64_t>>;
/// Elements of [0, length) outside the frozen ranges. These are whole parameters, ascending and disjoint;
/// each begins at a parameter. Throws Error(ERR_NATIVE_ARGUMENT).
Ranges outside(const Ranges& frozen, int64_t length);

}  // namespace orch
