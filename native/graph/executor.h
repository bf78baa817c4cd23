// Executes a planned graph in one thread, with an arena of its own.
#pragma once
#include <functional>

#include "../core/memory.h"
#include "graph.h"

namespace orch::graph {

class Executor {
 public:
  explicit Executor(const Graph& g);

  /// Values of Kind::Input, by their index.
  void bind_input(int64_t index, void* data);
  /// Flat arrays: fp32 weights, their bf16 copy (null in fp32 mode), and the slot's gradient (null without
  /// backward).
  void bind_flat(float* weights, bf16* weights16, float* gradient);
  /// Runs all nodes; after(i) is called when node i has ended.
  void run(kernels::AttentionStats* statistics, const std::function<void(int64_t)>* after);

  /// The bytes of a value marked `keep`, after run().
  void* data(Ref r) const { return pointers_[r.index]; }

 private:
  const Graph& graph_;
  Buffer arena_, scratch_;
  std::vector<void*> pointers_;
};

}  // namespace orch::graph
