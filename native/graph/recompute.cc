// Activation checkpointing, as a rewriting of the node list.
#include <algorithm>
#include <set>
#include <unordered_map>

#include "graph.h"

namespace orch::graph {
namespace {

/// Rewrites the backward half of a node list.
class Rewriter {
 public:
  Rewriter(Graph& g, const std::vector<Node>& nodes, size_t forward_nodes,
           const std::vector<Node>& substitutes, int level)
      : graph_(g), nodes_(nodes) {
    const auto dropped = [&](const Node& n) { return n.recompute_level > 0 && n.recompute_level <= level; };
    for (size_t i = 0; i < forward_nodes; ++i)
      for (Ref r : nodes[i].outputs)
        if (r && dropped(nodes[i]) && !g[r].keep) writers_[r.index].push_back(&nodes[i]);
    for (const Node& n : substitutes)
      for (Ref r : n.outputs)
        if (dropped(n) && !g[r].keep) writers_.try_emplace(r.index, 1, &n);
  }

  std::vector<Node> run(size_t forward_nodes) {
    std::vector<Node> out(nodes_.begin(), nodes_.begin() + static_cast<int64_t>(forward_nodes));
    for (size_t i = forward_nodes; i < nodes_.size(); ++i) {
      Node n = nodes_[i];
      for (Ref& r : n.inputs) r = available(r, out);
      out.push_back(std::move(n));
    }
    return out;
  }

 private:
  /// The value itself if it was kept; otherwise its recomputed copy, whose nodes are appended to `out` at the
  /// first request.
  Ref available(Ref r, std::vector<Node>& out) {
    if (!r || !writers_.contains(r.index)) return r;
    if (auto again = again_.find(r.index); again != again_.end()) return again->second;
    for (const Node* writer : together(r)) {
      Node n = *writer;
      for (Ref& in : n.inputs) in = available(in, out);
      for (Ref& o : n.outputs)
        if (o && writers_.contains(o.index)) o = twin(o);
      out.push_back(std::move(n));
    }
    return again_.at(r.index);
  }
  /// The nodes that write a value, and all nodes that write the other outputs of these. The heads of two
  /// streams share q, k and v, and a value is complete only when all its writers have run.
  std::set<const Node*> together(Ref r) const {
    std::set<const Node*> all;
    std::vector<int32_t> values{r.index};
    while (!values.empty()) {
      const int32_t value = values.back();
      values.pop_back();
      for (const Node* writer : writers_.at(value))
        if (all.insert(writer).second)
          for (Ref o : writer->outputs)
            if (o && writers_.contains(o.index)) values.push_back(o.index);
    }
    return all;
  }
  Ref twin(Ref r) {
    auto [it, fresh] = again_.try_emplace(r.index, Ref{});
    if (fresh) it->second = graph_.activation(graph_[r].name, graph_[r].dtype, Shape(graph_[r].shape));
    return it->second;
  }

  Graph& graph_;
  const std::vector<Node>& nodes_;
  std::unordered_map<int32_t, std::vector<const Node*>> writers_;  // writers of dropped values
  std::unordered_map<int32_t, Ref> again_;
};

}  // namespace

int Graph::recompute_level(Ref value) const {
  int level = 0;
  for (const auto* list : {&nodes_, &substitutes_})
    for (const Node& n : *list)
      if (n.recompute_level > 0 && std::find(n.outputs.begin(), n.outputs.end(), value) != n.outputs.end() &&
          (level == 0 || n.recompute_level < level))
        level = n.recompute_level;
  return level;
}

void Graph::recompute(int level) {
  if (level <= 0) return;
  nodes_ = Rewriter(*this, nodes_, forward_nodes_, substitutes_, level).run(forward_nodes_);
}

}  // namespace orch::graph
