#include "requests.h"

#include <algorithm>

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
