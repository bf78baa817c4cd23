// The first part of a training step: the gradients of this engine's slots, summed along the tree.
#include <numeric>

#include "../core/clock.h"
#include "../core/error.h"
#include "../core/watchdog.h"
#include "../faults/faults.h"
#include "lane.h"

namespace orch {
namespace {

/// The summary of every attention and stream that has queries, from the statistics of all attentions by
/// micro-batch.
std::vector<AttentionSummary> summarize(const std::vector<kernels::AttentionStats>& statistics,
                                        size_t attentions) {
  std::vector<AttentionSummary> all;
  for (size_t a = 0; a < attentions; ++a)
    for (int stream : {0, 1}) {
      AttentionSummary summary{a, stream, 0, 0, 0};
      for (size_t at = a; at < statistics.size(); at += attentions) {
        const kernels::StreamStats& of = statistics[at].streams[stream];
        summary.max_abs_logit = std::max(summary.max_abs_logit, of.max_abs_logit);
        summary.mean_entropy += of.entropy_sum;
        summary.rows += of.rows;
      }
      if (summary.rows == 0) continue;
      summary.mean_entropy /= static_cast<double>(summary.rows);
      all.push_back(summary);
    }
  return all;
}

template <class Work>
void timed(double& seconds, const Work& work) {
  const double start = seconds_now();
  work();
  seconds += seconds_now() - start;
}

}  // namespace

/// One call of accumulate(). The micro-batches of all slots are numbered from 0.
struct Engine::Accumulation {
  Engine& engine;
  const AccumulateRequest& request;
  const int64_t samples = engine.spec_.shape.samples;  ///< of a micro-batch
  const int64_t slots = static_cast<int64_t>(request.slots.size());
  const int64_t per_slot = request.slots[0].samples.count() / samples;  ///< micro-batches
  const int64_t count = slots * per_slot;                               ///< micro-batches
  const int64_t attentions = engine.graph_->graph.attentions();
  const size_t loss_bytes = sizeof(float) * static_cast<size_t>(samples);
  const size_t statistics_bytes =
      sizeof(kernels::AttentionStats) * static_cast<size_t>(std::max(int64_t{1}, attentions));
  const bool cpu = engine.device_.is_cpu();
  /// whether the other GPUs get the buckets as they are completed
  const bool overlaps =
      engine.connected() &&
      engine.exchange_->covers({request.slots[0].slot, request.slots[0].slot + slots}, request.total_slots);
  const double start = seconds_now();
  uint64_t enqueued = 0;  ///< the event of the micro-batch that a GPU was given last
  std::vector<double> waiting = zeros(), gathering = zeros(), forward = zeros(), computing = zeros();

  std::vector<double> zeros() const { return std::vector<double>(slots); }  ///< seconds by slot
  void allocate();
  Source source(int64_t slot) const {
    return {request.slots[slot].samples, request.grad_scale, request.seed, request.step};
  }
  void prefetch(Lane& lane, Source of, int64_t from) const;
  void compute_slot(int64_t slot, Lane& lane);
  void compute(int64_t micro_batch, Lane& lane, float* gradient);
  void bucket_done(int bucket, const std::function<void(int)>& on_bucket);
  void follow();
  void prefetch_next_step();
  AccumulateResult result();
};

void Engine::Accumulation::allocate() {
  Engine& e = engine;
  if (e.losses_.bytes() >= loss_bytes * count) return;
  e.losses_ = e.device_.allocate(loss_bytes * count);
  e.statistics_ = e.device_.allocate(statistics_bytes * count);
}

void Engine::Accumulation::prefetch(Lane& lane, Source of, int64_t from) const {
  engine.stage(lane, of, from);
  lane.prefetched.emplace(std::move(of), from);
}

void Engine::Accumulation::compute_slot(int64_t slot, Lane& lane) {
  float* gradient = nullptr;
  timed(computing[slot], [&] { gradient = engine.sums_->acquire(); });
  for (int64_t i = 0; i < per_slot; ++i) compute(slot * per_slot + i, lane, gradient);
}

void Engine::Accumulation::compute(int64_t micro_batch, Lane& lane, float* gradient) {
  Engine& e = engine;
  const int64_t i = micro_batch / per_slot, at = micro_batch % per_slot, slot = request.slots[i].slot;
  timed(waiting[i], [&] {
    const std::pair wanted{source(i), at * samples};
    if (!(std::exchange(lane.prefetched, std::nullopt) == wanted)) e.stage(lane, wanted.first, wanted.second);
    e.take_mixed(lane);
  });
  timed(computing[i], [&] {
    // The gradient is complete with the slot's last micro-batch.
    const int buckets = at == per_slot - 1 ? e.sums_->buckets() : 0;
    int next = 0;
    const int64_t last_forward = e.graph_->graph.forward_nodes() - 1;
    const double began = seconds_now();
    const std::function<void(int64_t)> after = [&](int64_t node) {
      if (node == last_forward) forward[i] += seconds_now() - began;
      ORCH_FAULT_IF(node == last_forward / 2, forward);
      ORCH_FAULT_IF(node == (last_forward + std::ssize(e.graph_->graph.nodes())) / 2, backward);
      // Buckets complete in the order in which the table lists them.
      while (next < buckets && e.bucket_ready_[next] <= node) e.sums_->complete(slot, gradient, next++);
    };
    const bool in_parts = overlaps && micro_batch == count - 1;
    lane.run(e.flat(State::Master), e.weights16_.as<bf16>(), gradient, request.statistics,
             cpu || in_parts ? &after : nullptr, at > 0, in_parts ? e.part_ends() : std::vector<int64_t>{});
    e.device_.copy(e.losses_.as<char>() + micro_batch * loss_bytes, lane.executor.data(e.graph_->loss),
                   loss_bytes);
    if (request.statistics)
      e.device_.copy(e.statistics_.as<char>() + micro_batch * statistics_bytes, lane.statistics.data(),
                     statistics_bytes);
    while (next < buckets) e.sums_->complete(slot, gradient, next++);
  });
  // The next rows are gathered and uploaded while a GPU computes these.
  const int64_t after = micro_batch + 1;
  if (!cpu && after < count)
    timed(gathering[i], [&] { prefetch(lane, source(after / per_slot), after % per_slot * samples); });
  if (!cpu) follow();
}

void Engine::Accumulation::bucket_done(int bucket, const std::function<void(int)>& on_bucket) {
  // A GPU's buckets are announced when the host has waited for all slots: publish().
  if (cpu) return on_bucket(bucket);
  if (!overlaps) return;
  const InStage now_at(Stage::Wait);
  const Bucket& b = engine.table_.buckets[bucket];
  engine.exchange_->advance(engine.sums_->parts(), b.offset + b.length);
}

/// The watchdog learns that a GPU has done the micro-batch before while the GPU computes the next one.
void Engine::Accumulation::follow() {
  const uint64_t before = std::exchange(enqueued, engine.device_.record_event());
  if (before == 0) return;
  engine.device_.await_event(before);
  tick_device();
}

void Engine::Accumulation::prefetch_next_step() {
  if (cpu || !request.next) return;
  try {
    timed(gathering[0], [&] {
      prefetch(*engine.training_lanes_[0],
               {*request.next, request.grad_scale, request.seed, request.step + 1}, 0);
    });
  } catch (const Error&) {  // the next step throws it again
  }
}

AccumulateResult Engine::Accumulation::result() {
  AccumulateResult result;
  const int64_t of_slot = per_slot * samples;
  std::vector<float> losses(slots * of_slot);
  engine.device_.download(losses.data(), engine.losses_.data(), loss_bytes * count);
  if (!cpu) tick_device();
  for (int64_t i = 0; i < slots; ++i)
    result.losses.emplace_back(losses.begin() + i * of_slot, losses.begin() + (i + 1) * of_slot);
  const auto sum = [](const std::vector<double>& seconds) {
    return std::accumulate(seconds.begin(), seconds.end(), 0.0);
  };
  result.numbers = {{"gather_seconds", sum(waiting) + sum(gathering)},
                    {"gather_wait_seconds", sum(waiting)},
                    {"forward_seconds", sum(forward)},
                    {"compute_seconds", cpu ? sum(computing) : seconds_now() - start - sum(waiting)}};
  if (request.statistics && attentions > 0) {
    std::vector<kernels::AttentionStats> statistics(count * attentions);
    engine.device_.download(statistics.data(), engine.statistics_.data(), statistics_bytes * count);
    result.attention = summarize(statistics, static_cast<size_t>(attentions));
  }
  return result;
}

AccumulateResult Engine::accumulate(const AccumulateRequest& request, std::function<void(int)> on_bucket) {
  check(request);
  ORCH_FAULT_STEP(request.step);
  const bool cpu = device_.is_cpu();
  const InStage now_at(cpu ? Stage::Compute : Stage::Device);
  {
    std::lock_guard lock(parts_mutex_);
    parts_.clear();
  }
  Accumulation step{*this, request};
  if (step.overlaps && exchange_->is_started())
    throw Error("ERR_INTERNAL", "reduce() must follow accumulate(), whose gradients other GPUs have already");
  const int64_t first = request.slots[0].slot;
  sums_->begin(first, first + step.slots, request.total_slots,
               [&](int bucket) { step.bucket_done(bucket, on_bucket); });
  norm_enqueued_ = false;
  step.allocate();
  try {
    each_slot(step.slots, training_lanes_, *graph_,
              [&](int64_t slot, Lane& lane) { step.compute_slot(slot, lane); });
  } catch (...) {
    sums_->abandon();
    throw;
  }
  const auto& sums = sums_->parts();
  const bool whole = sums.size() == 1 && sums[0].lo == 0 && sums[0].hi == request.total_slots;
  if (!cpu && whole) enqueue_norm(gradient());  // now, so that the host waits only once
  step.prefetch_next_step();
  AccumulateResult result = step.result();
  if (!cpu) publish(!whole && !connected(), on_bucket);
  return result;
}

void Engine::publish(bool to_host, const std::function<void(int)>& on_bucket) {
  const auto& sums = sums_->parts();
  std::vector<GradientPart> parts;
  for (size_t i = 0; i < sums.size(); ++i) {
    if (to_host && host_parts_.size() <= i) host_parts_.emplace_back(flat_bytes());
    parts.push_back({sums[i].lo, sums[i].hi, to_host ? host_parts_[i].as<float>() : nullptr});
  }
  {
    std::lock_guard lock(parts_mutex_);
    parts_ = parts;
  }
  for (size_t b = 0; b < table_.buckets.size(); ++b) {
    const Bucket& bucket = table_.buckets[b];
    for (size_t i = 0; to_host && i < sums.size(); ++i)
      device_.download(parts[i].data + bucket.offset, sums[i].data + bucket.offset,
                       sizeof(float) * bucket.length);
    on_bucket(static_cast<int>(b));
  }
}

}  // namespace orch
