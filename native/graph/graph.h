// A static graph: built once for a batch shape by functions that append values and nodes (native/ops),
// differentiated in reverse mode, planned into one arena, and executed as a flat list. It knows nothing about
// the model.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "../core/dtype.h"
#include "backend.h"

namespace orch::graph {

using Shape = std::vector<int64_t>;
int64_t elements(const Shape& s);

/// Where a value's bytes are stored.
enum class Kind : uint8_t {
  Input,       ///< passed by the caller for each execution, by index
  Parameter,   ///< in the flat arrays of weights, at an element offset: fp32 master or bf16 copy, by dtype
  Gradient,    ///< in the flat fp32 gradient of a slot, at an element offset
  Activation,  ///< in the arena
};

struct Value {
  std::string name;
  DType dtype;
  Shape shape;
  Kind kind;
  int64_t offset =
      0;  ///< Input: index; Parameter, Gradient: elements; Activation: bytes in the arena, once planned
  bool requires_grad = false;
  bool keep = false;                  ///< an output: stays valid to the end of the execution
  DType gradient_dtype = DType::F32;  ///< type in which its gradient is accumulated
};

/// Index of a value in its graph. A default-constructed Ref is "none".
struct Ref {
  int32_t index = -1;
  explicit operator bool() const { return index >= 0; }
  bool operator==(const Ref&) const = default;
};

/// What an operation receives when it runs.
struct Run {
  void* const* pointers;  ///< by value index
  const Ref* inputs;
  const Ref* outputs;
  void* scratch;                        ///< 64-byte aligned, scratch_bytes() of the op
  kernels::AttentionStats* statistics;  ///< one entry per attention of the graph, or null
  int64_t from, to;                     ///< the range of Op::parts() to compute
  const kernels::Table& table;          ///< the kernels of the graph's backend
  /// Whether outputs of Kind::Gradient hold the gradients of earlier micro-batches, to which those computed
  /// are added.
  bool adds = false;
  uint32_t* amax = nullptr;  ///< the word of Node::amax, or null

  template <class T>
  const T* in(int i) const {
    return inputs[i] ? static_cast<const T*>(pointers[inputs[i].index]) : nullptr;
  }
  template <class T>
  T* out(int i) const {
    return outputs[i] ? static_cast<T*>(pointers[outputs[i].index]) : nullptr;
  }
};

/// Writes a gradient of n elements: `compute(to)` writes it, into the operation's scratch, which must have n
/// floats, where it is then added to that of earlier micro-batches.
template <class F>
void write_gradient(const Run& r, float* gradient, int64_t n, F compute) {
  float* const to = r.adds ? static_cast<float*>(r.scratch) : gradient;
  compute(to);
  if (r.adds) r.table.f32.add(gradient, gradient, to, n);
}

/// Properties of an operation, which follow from its shapes alone.
struct Traits {
  /// The number of parts into which the work can be split. Every part writes its own outputs, with the same
  /// bits as in the whole, so any thread may run any part.
  int64_t parts = 1;
  /// The smallest number of parts that, run together, cost no more than their share of the whole.
  int64_t grain = 1;
  /// By output: the input whose memory it may overwrite if the input is not used afterwards, or -1, as for
  /// outputs that are not listed.
  std::vector<int> in_place = {};
  /// FLOPs of its matmuls (two per multiply-add), from which model FLOPs are counted.
  double flops = 0;
  size_t scratch_bytes = 0;
  /// The output whose largest magnitude it raises Run::amax to, unless that is null; or -1.
  int finds_amax = -1;
};

/// An operation with fixed dimensions.
struct Op : Traits {
  const char* name;
  /// Computes parts [r.from, r.to); a device's operation enqueues its work and returns. Stateless, so one
  /// instance serves all threads.
  std::function<void(const Run& r)> run;
};
inline std::unique_ptr<Op> make_op(const char* name, std::function<void(const Run&)> run,
                                   Traits traits = {}) {
  return std::make_unique<Op>(Op{std::move(traits), name, std::move(run)});
}

struct Node {
  std::shared_ptr<const Op> op;
  std::vector<Ref> inputs, outputs;
  /// The outputs are recomputed in the backward pass from this level of recomputation on; 0: never.
  int recompute_level = 0;
  bool writes_gradient = false;  ///< an output is of Kind::Gradient
  int amax = -1;                 ///< the word for the largest magnitude of an output or input, or none
};

/// One of the words in which an execution stores largest magnitudes (kernels.h), all 0 when it starts.
/// `found`: whether the node that writes the value finds it.
struct AmaxWord {
  int index;
  bool found;
};

class Graph;

/// Gradients of values while the backward pass is being appended.
class Reverse {
 public:
  explicit Reverse(Graph& g) : graph_(g) {}
  /// The gradient accumulated so far, or none.
  Ref of(Ref value) const;
  /// Replaces the gradient. The new one must contain the contribution of the old one.
  void set(Ref value, Ref gradient);
  /// A new activation for the gradient of a value, of the same type or of another one.
  Ref create(Ref value);
  Ref create(Ref value, DType dtype);
  /// The gradient of a value of which several operations each write a part; allocated at the first call.
  Ref shared(Ref value, DType dtype);
  /// Whether the gradient of this value is needed.
  bool wanted(Ref value) const;

 private:
  Graph& graph_;
  std::unordered_map<int32_t, Ref> gradients_;
};

class Graph {
 public:
  explicit Graph(const Backend& backend = cpu_backend()) : backend_(&backend) {}
  const Backend& backend() const { return *backend_; }

  /// The four functions append a value and return its index. `index` is that of bind_input(); `offset` is in
  /// elements of the flat arrays; gradient() is the place of a parameter's gradient.
  Ref input(std::string name, DType dtype, Shape shape, int64_t index, bool requires_grad = false);
  Ref parameter(std::string name, DType dtype, Shape shape, int64_t offset);
  Ref gradient(const Value& parameter);
  Ref activation(std::string name, DType dtype, Shape shape);

  /// Appends a node. Every input must have been written by an earlier node, or be an input or parameter.
  /// Returns it; valid until the next one is appended.
  Node& append(std::unique_ptr<Op> op, std::vector<Ref> inputs, std::vector<Ref> outputs);
  Node& append(const char* name, std::vector<Ref> inputs, std::vector<Ref> outputs,
               std::function<void(const Run&)> run, Traits traits = {}) {
    return append(make_op(name, std::move(run), std::move(traits)), std::move(inputs), std::move(outputs));
  }
  /// A word for the largest magnitude of a value, or of something computed from none. The node that writes
  /// the value finds it if it can, and is the only one; it writes the same magnitude again if it is
  /// recomputed.
  AmaxWord amax_word(Ref value);
  int amax_words() const { return amax_words_; }
  /// Another way to compute values than the node that wrote them: the one in which they are recomputed from
  /// `level` on, if their own node is not.
  void recompute_by(std::unique_ptr<Op> op, std::vector<Ref> inputs, std::vector<Ref> outputs, int level) {
    substitutes_.push_back({std::move(op), std::move(inputs), std::move(outputs), level});
  }
  /// Registers the backward rule of the node just appended.
  void on_reverse(std::function<void(Reverse&)> rule) { tape_.push_back(std::move(rule)); }
  /// Appends the backward rules in reverse order. Rules append nodes and register no rules.
  void differentiate();
  /// Activation checkpointing, after differentiate() and before plan(): the outputs of nodes with 0 <
  /// recompute_level <= level are recomputed, once, just before the backward pass first reads them. The same
  /// kernels on the same operands give the same bits, so only time and memory change.
  void recompute(int level);
  /// Sets the recompute_level of the nodes appended from now on.
  void set_recompute_level(int level) { recompute_level_ = level; }
  int recompute_level() const { return recompute_level_; }
  /// The level from which a value is recomputed; 0: never.
  int recompute_level(Ref value) const;

  Value& operator[](Ref r) { return values_[r.index]; }
  const Value& operator[](Ref r) const { return values_[r.index]; }
  const std::vector<Value>& values() const { return values_; }
  const std::vector<Node>& nodes() const { return nodes_; }
  Reverse& reverse() { return reverse_; }
  /// Adds an attention; returns its index.
  int add_attention(const kernels::AttentionDims& d) {
    attentions_.push_back(d);
    return attentions() - 1;
  }
  int attentions() const { return static_cast<int>(attentions_.size()); }
  const kernels::AttentionDims& attention(int index) const { return attentions_[index]; }
  /// Model FLOPs of the nodes that were appended before differentiate().
  double forward_flops() const;
  /// Nodes of the forward pass, which come first.
  int64_t forward_nodes() const {
    return static_cast<int64_t>(forward_nodes_ ? forward_nodes_ : nodes_.size());
  }

  /// Places every activation in one arena, by liveness. Returns the arena's bytes.
  size_t plan();
  size_t arena_bytes() const { return arena_bytes_; }
  size_t scratch_bytes() const;
  /// Index of the last node that writes a Gradient value in the element range [offset, offset + length), or
  /// -1.
  int64_t last_writer(int64_t offset, int64_t length) const;

 private:
  Ref push(Value v);
  const Backend* backend_;
  std::vector<Value> values_;
  std::vector<Node> nodes_;
  std::vector<Node> substitutes_;
  std::vector<std::function<void(Reverse&)>> tape_;
  Reverse reverse_{*this};
  size_t forward_nodes_ = 0;
  int recompute_level_ = 0;
  size_t arena_bytes_ = 0;
  int amax_words_ = 0;
  std::vector<kernels::AttentionDims> attentions_;
};

}  // namespace orch::graph
