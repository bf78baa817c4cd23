#include "host_engine.h"

#include <cstring>

#include "../core/clock.h"
#include "../core/error.h"
#include "../kernels/kernels.h"
#include "host_lane.h"

namespace orch {

HostEngine::HostEngine(const EngineSpec& spec)
    : Engine(spec, graph::cpu_backend()), pool_(std::max(1, spec.threads)) {
  const size_t bytes = static_cast<size_t>(table_.length) * sizeof(float);
  state_[static_cast<int>(State::Master)] = Buffer(bytes);
  if (spec.ema) state_[static_cast<int>(State::Ema)] = Buffer(bytes);
  if (spec.training) {
    state_[static_cast<int>(State::M)] = Buffer(bytes);
    state_[static_cast<int>(State::V)] = Buffer(bytes);
    sums_ = std::make_unique<GradientSums>(table_.length, table_.buckets);
    for (const Bucket& b : table_.buckets)
      bucket_ready_.push_back(graph_->graph.last_writer(b.offset, b.length));
  }
  if (spec.compute == DType::BF16) weights16_ = Buffer(static_cast<size_t>(table_.length) * sizeof(bf16));
  cropped_ = Buffer(static_cast<size_t>(cropped_elements()) * sizeof(float));
  crop(cropped_.as<float>());
  freeze({});
  lanes_.resize(lanes());
}

HostEngine::~HostEngine() {
  pool_.finish();  // one of its jobs may start a snapshot
  if (snapshot_thread_.joinable()) snapshot_thread_.join();
}

// --- slots

void HostEngine::each_slot(int64_t count, const std::function<void(int64_t, int)>& piece) {
  // With one thread per lane, a thread always uses the same lane, whose memory is in its cache.
  if (spec_.threads_per_slot == 1) return pool_.parallel(count, piece);
  std::atomic<int64_t> next{0};
  pool_.parallel(std::min<int64_t>(lanes(), count), [&](int64_t lane, int) {
    for (int64_t i = next++; i < count; i = next++) piece(i, static_cast<int>(lane));
  });
}

HostEngine::Lane& HostEngine::training_lane(int i) {
  auto& lane = lanes_[i];
  if (!lane) lane = std::make_unique<Lane>(*graph_, spec_, cropped_.as<float>(), spec_.threads_per_slot);
  return *lane;
}

// --- training

AccumulateResult HostEngine::accumulate(const AccumulateRequest& request,
                                        std::function<void(int)> on_bucket) {
  check(request);
  const int64_t count = static_cast<int64_t>(request.slots.size());
  sums_->begin(request.slots[0].slot, request.slots[0].slot + count, request.total_slots,
               std::move(on_bucket));

  AccumulateResult result;
  result.losses.resize(count);
  const int attentions = graph_->graph.attentions();
  std::vector<std::vector<kernels::AttentionStats>> statistics(count);
  std::vector<double> gathering(count), computing(count);
  const auto compute = [&](int64_t i, int at) {
    const SlotBatch& slot = request.slots[i];
    Lane& lane = training_lane(at);
    const double start = seconds_now();
    gather(lane.pointers(), slot.samples, 0, request.grad_scale, request.seed, request.step);
    lane.mix(latent_elements());
    const double gathered = seconds_now();
    if (request.statistics) statistics[i].resize(attentions);
    float* gradient = sums_->acquire();
    bind(lane, State::Master, gradient);
    size_t next = 0;
    const std::function<void(int64_t)> after = [&](int64_t node) {
      // Buckets complete in the order in which the table lists them.
      while (next < bucket_ready_.size() && bucket_ready_[next] <= node)
        sums_->complete(slot.slot, gradient, static_cast<int>(next++));
    };
    lane.executor.run(request.statistics ? statistics[i].data() : nullptr, &after);
    const float* loss = static_cast<const float*>(lane.executor.data(graph_->loss));
    result.losses[i].assign(loss, loss + spec_.shape.samples);
    gathering[i] = gathered - start;
    computing[i] = seconds_now() - gathered;
  };
  try {
    each_slot(count, compute);
  } catch (...) {
    sums_->abandon();
    throw;
  }

  for (int64_t i = 0; i < count; ++i) {
    result.gather_seconds += gathering[i];
    result.compute_seconds += computing[i];
  }
  if (request.statistics) result.attention = summarize(statistics);
  return result;
}

namespace {
constexpr int64_t kChunk = 1 << 16;  // elements; fixed, so that sums do not depend on the number of threads
int64_t chunks(int64_t n) { return (n + kChunk - 1) / kChunk; }
}  // namespace

void HostEngine::freeze(const Ranges& frozen) {
  // The group's table of squares has one entry per piece at the time it was created.
  if (group_) throw Error("ERR_INTERNAL", "freeze: after join");
  Ranges pieces;
  for (const auto& [from, to] : outside(frozen, table_.length))
    for (int64_t at = from; at < to; at += kChunk) pieces.emplace_back(at, std::min(at + kChunk, to));
  trained_ = std::move(pieces);
}

const float* HostEngine::gradient() const {
  check_training();
  if (sums_->parts().empty() || !sums_->parts()[0].data) no_gradient();
  return sums_->parts()[0].data;
}

void HostEngine::update(const UpdateRequest& u) {
  await_snapshot();
  if (group_) group_->wait_released();
  const kernels::AdamW o = u.constants();
  const float* g = gradient();  // of this engine, so that there is one
  if (group_) g = group_->sum();
  float* ema = has(State::Ema) && u.ema_decay != 1 ? flat(State::Ema) : nullptr;
  parallel_for(static_cast<int64_t>(trained_.size()), [&](int64_t i) {
    const auto [at, end] = trained_[i];
    kernels::cpu().raw.adamw(flat(State::Master) + at, flat(State::M) + at, flat(State::V) + at,
                             ema ? ema + at : nullptr, weights16_ ? weights16_.as<bf16>() + at : nullptr,
                             g + at, end - at, &o);
  });
  if (ema) ema16_stale_ = true;
}

void HostEngine::parameters_changed() {
  crop(cropped_.as<float>());
  ema16_stale_ = true;
  if (!weights16_) return;
  pool_.parallel(chunks(table_.length), [&](int64_t i, int) {
    const int64_t at = i * kChunk;
    kernels::cpu().b16.from_f32(weights16_.as<bf16>() + at, flat(State::Master) + at,
                                std::min(kChunk, table_.length - at));
  });
}

void HostEngine::await_snapshot() {
  std::unique_lock lock(snapshot_mutex_);
  snapshot_done_.wait(lock, [&] { return !snapshot_running_; });
}

void HostEngine::snapshot(std::function<void(std::exception_ptr)> done) {
  await_snapshot();
  if (snapshot_thread_.joinable()) snapshot_thread_.join();
  if (group_) group_->hold();
  {
    std::lock_guard lock(snapshot_mutex_);
    snapshot_running_ = true;
  }
  const auto end = [this, done = std::move(done)](std::exception_ptr failure) {
    {
      std::lock_guard lock(snapshot_mutex_);
      snapshot_running_ = false;
    }
    snapshot_done_.notify_all();
    if (group_) group_->release();
    done(failure);
  };
  try {
    snapshot_thread_ = std::thread([this, end] {
      std::exception_ptr failure;
      try {
        copy_state();
      } catch (...) {  // usually out of memory: a snapshot allocates a copy of the state
        failure = std::current_exception();
      }
      end(failure);
    });
  } catch (...) {  // the system has no more threads
    end(std::current_exception());
  }
}

void HostEngine::copy_state() {
  for (int s = 0; s < 4; ++s) {
    if (!state_[s]) continue;
    if (!snapshot_[s]) snapshot_[s] = Buffer(state_[s].bytes());
    std::memcpy(snapshot_[s].data(), state_[s].data(), state_[s].bytes());
  }
}

}  // namespace orch
