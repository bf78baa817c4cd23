#include "executor.h"

#include "../core/pool.h"
#include "../core/watchdog.h"

namespace orch::graph {
namespace {

constexpr int kSpins = 1 << 14;  // about 100 us: usually longer than the time between two shared nodes

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

Executor::Executor(const Graph& g, int threads, Device& device)
    : graph_(g), threads_(threads), device_(device), arena_(device.allocate(g.arena_bytes())) {
  if (g.amax_words() > 0) amax_ = device.allocate(sizeof(uint32_t) * g.amax_words());
  for (const Value& v : graph_.values())
    pointers_.push_back(v.kind == Kind::Activation ? arena_.as<char>() + v.offset : nullptr);
  for (int i = 0; i < threads; ++i) scratch_.push_back(device.allocate(g.scratch_bytes()));
  try {
    for (int i = 1; i < threads; ++i) helpers_.emplace_back([this, i] { help(i); });
  } catch (...) {  // the system has no more threads
    end();
    throw;
  }
}

Executor::~Executor() { end(); }

void Executor::end() {
  call(nullptr);
  for (auto& t : helpers_) t.join();
}

void Executor::bind_input(int64_t index, void* data) {
  for (size_t i = 0; i < pointers_.size(); ++i) {
    const Value& v = graph_.values()[i];
    if (v.kind == Kind::Input && v.offset == index) pointers_[i] = data;
  }
}

void Executor::bind_flat(float* weights, bf16* weights16, float* gradient, bool adds) {
  adds_ = adds;
  for (size_t i = 0; i < pointers_.size(); ++i) {
    const Value& v = graph_.values()[i];
    if (v.kind == Kind::Parameter)
      pointers_[i] = v.dtype == DType::BF16 ? static_cast<void*>(weights16 + v.offset) : weights + v.offset;
    else if (v.kind == Kind::Gradient)
      pointers_[i] = gradient ? gradient + v.offset : nullptr;
  }
}

void Executor::run_parts(const Node& n, int thread, int64_t from, int64_t to) {
  if (from < to)
    n.op->run({pointers_.data(), n.inputs.data(), n.outputs.data(), scratch_[thread].data(), statistics_,
               from, to, graph_.backend().kernels(), adds_ && n.writes_gradient,
               n.amax < 0 ? nullptr : amax_.as<uint32_t>() + n.amax});
}

void Executor::run_share(int thread) {
  // Each thread first takes three quarters of its fair share, then small pieces: cores differ in speed over
  // time, and all threads wait for the slowest. If small pieces are expensive, each takes a fair share.
  const int64_t parts = node_->op->parts, grain = node_->op->grain;
  const int64_t most = parts * 3 / (4 * threads_);
  const int64_t share = most < 2 * grain ? (parts + threads_ - 1) / threads_ : most;
  const int64_t piece = std::max(grain, (parts - most * threads_) / (2 * threads_));
  for (int64_t from = next_.load(std::memory_order_relaxed); from < parts;) {
    const int64_t to = std::min(parts, from + (from < share * threads_ ? share : piece));
    if (!next_.compare_exchange_weak(from, to, std::memory_order_relaxed)) continue;
    run_parts(*node_, thread, from, to);
    from = next_.load(std::memory_order_relaxed);
  }
}

void Executor::try_share(int thread) {
  try {
    run_share(thread);
  } catch (...) {
    std::lock_guard lock(failure_mutex_);
    if (!failure_) failure_ = std::current_exception();
  }
}

void Executor::call(const Node* n) {
  node_ = n;
  next_.store(0, std::memory_order_relaxed);
  finished_.store(0, std::memory_order_relaxed);
  calls_.fetch_add(1, std::memory_order_release);
  calls_.notify_all();
}

void Executor::help(int thread) {
  begin_compute_thread();
  for (int seen = 0;; ++seen) {
    for (int i = 0; i < kSpins && calls_.load(std::memory_order_acquire) == seen; ++i) pause();
    calls_.wait(seen, std::memory_order_acquire);
    if (node_ == nullptr) return;
    try_share(thread);
    finished_.fetch_add(1, std::memory_order_release);
  }
}

void Executor::run_node(size_t index) {
  statistics_ = nullptr;
  const Node& n = graph_.nodes()[index];
  run_parts(n, 0, 0, n.op->parts);
}

void Executor::run(kernels::AttentionStats* statistics, const std::function<void(int64_t)>* after) {
  run_nodes(0, std::ssize(graph_.nodes()), statistics, after);
}

void Executor::run_nodes(int64_t from, int64_t to, kernels::AttentionStats* statistics,
                         const std::function<void(int64_t)>* after) {
  statistics_ = statistics;
  if (from == 0 && amax_) device_.fill(amax_.data(), 0, amax_.bytes());
  const auto& nodes = graph_.nodes();
  for (int64_t i = from; i < to; ++i) {
    const int64_t parts = nodes[i].op->parts;
    if (threads_ == 1 || parts == 1) {
      run_parts(nodes[i], 0, 0, parts);
    } else {
      call(&nodes[i]);
      try_share(0);
      for (int spins = 0; finished_.load(std::memory_order_acquire) < threads_ - 1; ++spins)
        spins < kSpins ? pause() : std::this_thread::yield();
      if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
    }
    tick();
    if (after) (*after)(i);
  }
}

}  // namespace orch::graph
