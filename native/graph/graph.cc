#include "graph.h"

#include <algorithm>

namespace orch::graph {

int64_t elements(const Shape& s) {
  int64_t n = 1;
  for (int64_t d : s) n *= d;
  return n;
}

Ref Reverse::of(Ref value) const {
  auto it = gradients_.find(value.index);
  return it == gradients_.end() ? Ref{} : it->second;
}
void Reverse::set(Ref value, Ref gradient) { gradients_[value.index] = gradient; }
bool Reverse::wanted(Ref value) const { return graph_[value].requires_grad; }
Ref Reverse::create(Ref value) { return create(value, graph_[value].dtype); }
Ref Reverse::create(Ref value, DType dtype) {
  return graph_.activation("d " + graph_[value].name, dtype, Shape(graph_[value].shape));
}
Ref Reverse::shared(Ref value, DType dtype) {
  if (Ref have = of(value)) return have;
  set(value, create(value, dtype));
  return of(value);
}

Ref Graph::push(Value v) {
  values_.push_back(std::move(v));
  return {static_cast<int32_t>(values_.size()) - 1};
}
Ref Graph::input(std::string name, DType dtype, Shape shape, int64_t index, bool requires_grad) {
  return push(
      {std::move(name), dtype, std::move(shape), Kind::Input, index, requires_grad, false, DType::F32});
}
Ref Graph::parameter(std::string name, DType dtype, Shape shape, int64_t offset) {
  return push({std::move(name), dtype, std::move(shape), Kind::Parameter, offset, true, false, DType::F32});
}
Ref Graph::gradient(const Value& p) {
  return push({"d " + p.name, DType::F32, p.shape, Kind::Gradient, p.offset, false, false, DType::F32});
}
Ref Graph::activation(std::string name, DType dtype, Shape shape) {
  return push({std::move(name), dtype, std::move(shape), Kind::Activation, 0, false, false, dtype});
}

Node& Graph::append(std::unique_ptr<Op> op, std::vector<Ref> inputs, std::vector<Ref> outputs) {
  if (forward_nodes_ == 0) {
    bool any = false;
    for (Ref r : inputs) any = any || (r && values_[r.index].requires_grad);
    if (any)
      for (Ref r : outputs)
        if (r) values_[r.index].requires_grad = true;
  }
  const bool writes_gradient = std::any_of(
      outputs.begin(), outputs.end(), [&](Ref r) { return r && values_[r.index].kind == Kind::Gradient; });
  nodes_.push_back({std::move(op), std::move(inputs), std::move(outputs), recompute_level_, writes_gradient});
  return nodes_.back();
}

AmaxWord Graph::amax_word(Ref value) {
  std::vector<Node*> writers;
  bool able = bool(value);
  for (auto* list : {&nodes_, &substitutes_}) {
    for (Node& n : *list) {
      const auto at = std::find(n.outputs.begin(), n.outputs.end(), value);
      if (!value || at == n.outputs.end()) continue;
      able = able && n.op->finds_amax == at - n.outputs.begin() && n.amax < 0;
      writers.push_back(&n);
    }
    // A value that several nodes write in part has no one that finds its amax; a substitute is an only
    // writer.
    able = able && (list == &substitutes_ || writers.size() == 1);
  }
  const AmaxWord word{amax_words_++, able};
  for (Node* n : writers)
    if (able) n->amax = word.index;
  return word;
}

void Graph::differentiate() {
  forward_nodes_ = nodes_.size();
  for (auto rule = tape_.rbegin(); rule != tape_.rend(); ++rule) (*rule)(reverse_);
  tape_.clear();
}

double Graph::forward_flops() const {
  size_t end = forward_nodes_ ? forward_nodes_ : nodes_.size();
  double sum = 0;
  for (size_t i = 0; i < end; ++i) sum += nodes_[i].op->flops;
  return sum;
}

size_t Graph::scratch_bytes() const {
  size_t most = 0;
  for (const Node& n : nodes_) most = std::max(most, n.op->scratch_bytes);
  return most;
}

int64_t Graph::last_writer(int64_t offset, int64_t length) const {
  for (int64_t i = static_cast<int64_t>(nodes_.size()) - 1; i >= 0; --i)
    for (Ref r : nodes_[i].outputs) {
      if (!r) continue;
      const Value& v = values_[r.index];
      if (v.kind == Kind::Gradient && v.offset >= offset && v.offset < offset + length) return i;
    }
  return -1;
}

}  // namespace orch::graph
