// Fusion: two operations become one if the second one's first input is an output of the first.
#include <algorithm>

#include "graph.h"

namespace orch::graph {
namespace {

bool share(const std::vector<Ref>& a, const std::vector<Ref>& b) {
  return std::any_of(a.begin(), a.end(),
                     [&](Ref r) { return r && std::find(b.begin(), b.end(), r) != b.end(); });
}

/// Whether a and b give the same results in either order.
bool independent(const Node& a, const Node& b) {
  return !share(a.outputs, b.inputs) && !share(a.outputs, b.outputs) && !share(a.inputs, b.outputs);
}

}  // namespace

void Graph::fuse() {
  for (size_t i = 0; i < nodes_.size(); ++i) {
    for (size_t j = i + 1; j < nodes_.size(); ++j) {
      const Node &a = nodes_[i], &b = nodes_[j];
      if (b.inputs.empty() || !b.inputs[0] || b.inputs[0] != a.outputs[0]) continue;
      std::shared_ptr<const Op> both = a.op->then(*b.op);
      if (!both) continue;
      const auto passes = [&](const Node& n) {
        return std::all_of(nodes_.begin() + i + 1, nodes_.begin() + j,
                           [&](const Node& other) { return independent(n, other); });
      };
      const bool earlier = passes(b);
      if (!earlier && !passes(a)) continue;
      Node fused{std::move(both), a.inputs, a.outputs};
      fused.inputs.insert(fused.inputs.end(), b.inputs.begin() + 1, b.inputs.end());
      fused.outputs.insert(fused.outputs.end(), b.outputs.begin(), b.outputs.end());
      nodes_[earlier ? i : j] = std::move(fused);
      nodes_.erase(nodes_.begin() + static_cast<int64_t>(earlier ? j : i));
      if (j < forward_nodes_) --forward_nodes_;
      if (!earlier) --i;
      break;
    }
  }
}

}  // namespace orch::graph
