// Executes a planned graph with an arena of its own, in one thread or several.
#pragma once
#include <atomic>
#include <functional>
#include <thread>

#include "../core/memory.h"
#include "graph.h"

namespace orch::graph {

class Executor {
 public:
  /// With more than one thread, run() has helpers: operations that can be cut into parts are shared, each
  /// thread taking parts as it has time, and the others are done by the caller. The bits are the same.
  explicit Executor(const Graph& g, int threads = 1);
  /// In memory of the graph's backend, which outlives this: an arena and scratch of the graph's sizes.
  Executor(const Graph& g, void* arena, void* scratch);
  ~Executor();

  /// Values of Kind::Input, by their index.
  void bind_input(int64_t index, void* data);
  /// Flat arrays: fp32 weights, their bf16 copy (null in fp32 mode), and the slot's gradient (null without
  /// backward).
  void bind_flat(float* weights, bf16* weights16, float* gradient);
  /// Runs all nodes; after(i) is called when node i has ended.
  void run(kernels::AttentionStats* statistics, const std::function<void(int64_t)>* after);

  /// One node, by the caller alone.
  void run_node(size_t index, kernels::AttentionStats* statistics);

  /// The bytes of a value marked `keep`, after run().
  void* data(Ref r) const { return pointers_[r.index]; }

 private:
  void place(void* arena);
  void run_parts(const Node& n, int thread, int64_t from, int64_t to);
  void run_share(int thread);
  /// Keeps what is thrown for run(): a helper has nobody to throw to, and none may be left at work behind.
  void try_share(int thread);
  void call(const Node* n);
  void help(int thread);
  void end();

  const Graph& graph_;
  const int threads_;
  std::vector<Buffer> own_;     // the arena and scratch, where they are not the caller's
  std::vector<void*> scratch_;  // by thread
  std::vector<void*> pointers_;
  kernels::AttentionStats* statistics_ = nullptr;
  const Node* node_ = nullptr;    // the one that is shared, or null: the end
  std::atomic<int> calls_{0};     // of the helpers to a node
  std::atomic<int64_t> next_{0};  // of its parts: the first that nobody has taken
  std::atomic<int> finished_{0};  // helpers that have no part of it left to do
  std::mutex failure_mutex_;
  std::exception_ptr failure_;
  std::vector<std::thread> helpers_;
};

}  // namespace orch::graph
