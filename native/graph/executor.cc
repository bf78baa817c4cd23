#include "executor.h"

namespace orch::graph {

Executor::Executor(const Graph& g)
    : graph_(g), arena_(g.arena_bytes()), scratch_(g.scratch_bytes()), pointers_(g.values().size(), nullptr) {
  for (size_t i = 0; i < pointers_.size(); ++i) {
    const Value& v = g.values()[i];
    if (v.kind == Kind::Activation) pointers_[i] = arena_.as<char>() + v.offset;
  }
}

void Executor::bind_input(int64_t index, void* data) {
  for (size_t i = 0; i < pointers_.size(); ++i) {
    const Value& v = graph_.values()[i];
    if (v.kind == Kind::Input && v.offset == index) pointers_[i] = data;
  }
}

void Executor::bind_flat(float* weights, bf16* weights16, float* gradient) {
  for (size_t i = 0; i < pointers_.size(); ++i) {
    const Value& v = graph_.values()[i];
    if (v.kind == Kind::Parameter)
      pointers_[i] = v.dtype == DType::BF16 ? static_cast<void*>(weights16 + v.offset) : weights + v.offset;
    else if (v.kind == Kind::Gradient)
      pointers_[i] = gradient ? gradient + v.offset : nullptr;
  }
}

void Executor::run(kernels::AttentionStats* statistics, const std::function<void(int64_t)>* after) {
  const auto& nodes = graph_.nodes();
  for (size_t i = 0; i < nodes.size(); ++i) {
    const Node& n = nodes[i];
    n.op->run({pointers_.data(), n.inputs.data(), n.outputs.data(), scratch_.data(), statistics});
    if (after) (*after)(static_cast<int64_t>(i));
  }
}

}  // namespace orch::graph
