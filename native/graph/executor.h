// Executes a planned graph in its own arena, with one thread or several.
#pragma once
#include <atomic>
#include <functional>
#include <thread>

#include "device.h"

namespace orch::graph {

class Executor {
 public:
  /// With more than one thread, run() uses helpers: operations that can be split into parts are shared, each
  /// thread taking parts as it becomes free, and the caller runs the others alone. The bits are the same.
  /// @param device of the graph's backend
  explicit Executor(const Graph& g, int threads = 1, Device& device = cpu_device());
  ~Executor();

  /// Sets the memory of the value of Kind::Input with this index.
  void bind_input(int64_t index, void* data);
  /// Sets the flat arrays: fp32 weights, their bf16 copy (null in fp32), and the slot's gradient (null
  /// without backward pass).
  /// @param adds whether run() adds the gradient to what is there, that of earlier micro-batches
  void bind_flat(float* weights, bf16* weights16, float* gradient, bool adds = false);
  /// Runs all nodes. after(i) is called when node i has finished.
  void run(kernels::AttentionStats* statistics = nullptr,
           const std::function<void(int64_t)>* after = nullptr);
  /// Runs nodes [from, to). An execution in parts begins with node 0, and the parts follow in order.
  void run_nodes(int64_t from, int64_t to, kernels::AttentionStats* statistics,
                 const std::function<void(int64_t)>* after = nullptr);

  /// Runs one node on the calling thread alone.
  void run_node(size_t index);

  /// The bytes of a value marked `keep`; valid after run().
  void* data(Ref r) const { return pointers_[r.index]; }
  const Buffer& arena() const { return arena_; }

 private:
  void run_parts(const Node& n, int thread, int64_t from, int64_t to);
  void run_share(int thread);
  /// Stores an exception for run() to rethrow: a helper cannot throw it, and no thread may be left working.
  void try_share(int thread);
  void call(const Node* n);
  void help(int thread);
  void end();

  const Graph& graph_;
  const int threads_;
  Device& device_;
  Buffer arena_;
  Buffer amax_;                  // the graph's words
  std::vector<Buffer> scratch_;  // by thread
  std::vector<void*> pointers_;
  kernels::AttentionStats* statistics_ = nullptr;
  bool adds_ = false;
  const Node* node_ = nullptr;    // the node being shared; null: the helpers end
  std::atomic<int> calls_{0};     // number of times helpers were called to a node
  std::atomic<int64_t> next_{0};  // the node's first part that no thread has taken
  std::atomic<int> finished_{0};  // helpers that have finished their share of the node
  std::mutex failure_mutex_;
  std::exception_ptr failure_;
  std::vector<std::thread> helpers_;
};

}  // namespace orch::graph
