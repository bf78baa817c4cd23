#include "device_sums.h"

#include <algorithm>

#include "../core/error.h"

namespace orch {

void DeviceSums::begin(int64_t first, int64_t end, int64_t total) {
  if (first < 0 || first >= end || end > total)
    throw Error("ERR_INTERNAL", "Slots " + std::to_string(first) + " to " + std::to_string(end) + " of " +
                                    std::to_string(total));
  first_ = next_ = first;
  end_ = end;
  total_ = total;
  stack_.clear();
  free_.clear();
  for (auto it = memory_.rbegin(); it != memory_.rend(); ++it) free_.push_back(it->as<float>());
}

float* DeviceSums::acquire() {
  if (free_.empty()) {
    memory_.emplace_back(device_, static_cast<size_t>(length_) * sizeof(float));
    return memory_.back().as<float>();
  }
  float* buffer = free_.back();
  free_.pop_back();
  return buffer;
}

void DeviceSums::complete(float* buffer) {
  Node node{0, next_++, buffer};
  for (;;) {
    const Node parent{node.level + 1, node.index / 2, node.buffer};
    const bool local = low(parent) >= first_ && high(parent) <= end_;
    if (!local || (int64_t{1} << node.level) >= total_) break;
    if (node.index % 2 == 0) {
      if (high(node) < total_) break;  // its right sibling is still to come
      node = parent;
      continue;
    }
    float* const left = stack_.back().buffer;
    device_.kernels().raw.add_into(left, node.buffer, length_);
    free_.push_back(node.buffer);
    stack_.pop_back();
    node = {parent.level, parent.index, left};
  }
  stack_.push_back(node);
}

std::vector<GradientPart> DeviceSums::parts() const {
  std::vector<GradientPart> parts;
  for (const Node& n : stack_) parts.push_back({low(n), high(n), n.buffer});
  return parts;
}

}  // namespace orch
