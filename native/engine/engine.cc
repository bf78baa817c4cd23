#include "engine.h"

#include <cmath>
#include <cstring>

#include "../core/error.h"
#include "../kernels/kernels.h"
#include "clock.h"
#include "lane.h"

namespace orch {

Engine::Engine(const EngineSpec& spec)
    : spec_(spec),
      table_(spec.model),
      graph_(build_mmdit(spec.model, table_, spec.shape,
                         {spec.compute, spec.residual, spec.training, false, spec.recompute})),
      pool_(std::max(1, spec.threads)) {
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
  positions_ = Buffer(static_cast<size_t>(position_elements()) * sizeof(float));
  const int64_t grid = (spec.shape.height / spec.model.patch) * (spec.shape.width / spec.model.patch);
  cropped_ = Buffer(static_cast<size_t>(grid * spec.model.hidden()) * sizeof(float));
  position_table(spec.model, positions());
  crop();
  freeze({});
  lanes_.resize(lanes());
}

Engine::~Engine() {
  if (snapshot_thread_.joinable()) snapshot_thread_.join();
}

int64_t Engine::position_elements() const {
  return spec_.model.pos_embed_max_size * spec_.model.pos_embed_max_size * spec_.model.hidden();
}

int64_t Engine::latent_elements() const {
  return spec_.model.latent_channels * spec_.shape.height * spec_.shape.width;
}

void Engine::crop() {
  crop_positions(spec_.model, positions(), spec_.shape.height / spec_.model.patch,
                 spec_.shape.width / spec_.model.patch, cropped_.as<float>());
}

void Engine::attach(std::shared_ptr<const Dataset> dataset, const TextSpec& text) {
  if (text.context_tokens() != spec_.shape.context_tokens || text.context_dim() != spec_.model.context_dim ||
      text.pooled_dim() != spec_.model.pooled_dim)
    throw Error("ERR_DATA_SHAPE",
                "The data set's text (" + std::to_string(text.context_tokens()) + " tokens of " +
                    std::to_string(text.context_dim()) + ", pooled " + std::to_string(text.pooled_dim()) +
                    ") is not what the model was built for (" + std::to_string(spec_.shape.context_tokens) +
                    " of " + std::to_string(spec_.model.context_dim) + ", pooled " +
                    std::to_string(spec_.model.pooled_dim) + ")");
  assembler_ = std::make_unique<BatchAssembler>(std::move(dataset), text, latent_elements());
}

// --- inputs of a lane
// --------------------------------------------------------------------------------------------------

void Engine::check(const SampleBatch& b) const {
  const size_t n = b.rows.size();
  if (!assembler_) throw Error("ERR_INTERNAL", "No dataset is attached to the engine");
  if (n == 0 || b.synthetic.size() != n || b.dropped.size() != n || b.coefficients.size() != 6 * n ||
      b.sample_ids.size() != n)
    throw Error("ERR_TENSOR_SHAPE", "The arrays of a batch differ in length");
}

void Engine::check(const RawBatch& b) const {
  const size_t n = b.timestep.size();
  if (n == 0 || b.z.size() != n * latent_elements() || b.context.size() != n * context_elements() ||
      b.pooled.size() != n * spec_.model.pooled_dim)
    throw Error("ERR_TENSOR_SHAPE",
                "The inputs of a batch of " + std::to_string(n) + " have other shapes than the model");
}

void Engine::fill(Lane& lane, const SampleBatch& batch, int64_t from, float grad_scale, uint64_t seed,
                  uint32_t step) {
  // The last chunk of an evaluation may be short; its free places repeat the last sample and are not read.
  const int64_t n = spec_.shape.samples, elements = latent_elements(), last = batch.count() - 1;
  std::vector<int64_t> rows(n);
  std::vector<uint8_t> synthetic(n), dropped(n);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t s = std::min(from + i, last);
    rows[i] = batch.rows[s];
    synthetic[i] = batch.synthetic[s];
    dropped[i] = batch.dropped[s];
  }
  const BatchRows r{n, rows.data(), synthetic.data(), dropped.data()};
  if (spec_.compute == DType::BF16)
    assembler_->assemble(r, lane.x0.as<float>(), lane.context.as<bf16>(), lane.pooled.as<bf16>());
  else
    assembler_->assemble(r, lane.x0.as<float>(), lane.context.as<float>(), lane.pooled.as<float>());
  for (int64_t i = 0; i < n; ++i) {
    const int64_t s = std::min(from + i, last);
    const float* c = &batch.coefficients[6 * s];
    kernels::cpu().raw.mix_noise(lane.z.as<float>() + i * elements, lane.target.as<float>() + i * elements,
                                 lane.x0.as<float>() + i * elements, c[0], c[1], c[2], c[3],
                                 {seed, 0, step, batch.sample_ids[s]}, elements);
    lane.grad_scale.as<float>()[i] = c[4] * grad_scale;
    lane.timestep.as<float>()[i] = c[5];
  }
}

void Engine::fill(Lane& lane, const RawBatch& batch, int64_t from) {
  const int64_t n = std::min(spec_.shape.samples, batch.count() - from);
  const int64_t z = latent_elements(), c = context_elements(), p = spec_.model.pooled_dim;
  std::memcpy(lane.z.data(), &batch.z[from * z], sizeof(float) * n * z);
  std::memcpy(lane.timestep.data(), &batch.timestep[from], sizeof(float) * n);
  if (spec_.compute == DType::BF16) {
    kernels::cpu().b16.from_f32(lane.context.as<bf16>(), &batch.context[from * c], n * c);
    kernels::cpu().b16.from_f32(lane.pooled.as<bf16>(), &batch.pooled[from * p], n * p);
  } else {
    std::memcpy(lane.context.data(), &batch.context[from * c], sizeof(float) * n * c);
    std::memcpy(lane.pooled.data(), &batch.pooled[from * p], sizeof(float) * n * p);
  }
}

void Engine::each_slot(int64_t count, const std::function<void(int64_t, int)>& piece) {
  // With a thread for each lane, a thread stays with its lane, which is in its cache.
  if (spec_.threads_per_slot == 1) return pool_.parallel(count, piece);
  std::atomic<int64_t> next{0};
  pool_.parallel(std::min<int64_t>(lanes(), count), [&](int64_t lane, int) {
    for (int64_t i = next++; i < count; i = next++) piece(i, static_cast<int>(lane));
  });
}

Engine::Lane& Engine::training_lane(int i) {
  auto& lane = lanes_[i];
  if (!lane) lane = std::make_unique<Lane>(*graph_, spec_, cropped_.as<float>(), spec_.threads_per_slot);
  return *lane;
}

// --- training
// ------------------------------------------------------------------------------------------------------------

AccumulateResult Engine::accumulate(const AccumulateRequest& request, std::function<void(int)> on_bucket) {
  if (!spec_.training) throw Error("ERR_INTERNAL", "This engine was made for inference");
  const int64_t count = static_cast<int64_t>(request.slots.size());
  for (int64_t i = 0; i < count; ++i) {
    check(request.slots[i].samples);
    if (request.slots[i].samples.count() != spec_.shape.samples ||
        request.slots[i].slot != request.slots[0].slot + i)
      throw Error("ERR_TENSOR_SHAPE",
                  "Slots must be contiguous, of " + std::to_string(spec_.shape.samples) + " samples");
  }
  if (count == 0) throw Error("ERR_INTERNAL", "accumulate: no slots");
  sums_->begin(request.slots[0].slot, request.slots[0].slot + count, request.total_slots,
               std::move(on_bucket));

  AccumulateResult result;
  result.losses.resize(count);
  const int attentions = graph_->graph.attentions();
  std::vector<std::vector<kernels::AttentionStats>> statistics(count);
  std::vector<double> gather(count), compute(count);
  each_slot(count, [&](int64_t i, int at) {
    const SlotBatch& slot = request.slots[i];
    Lane& lane = training_lane(at);
    const double start = seconds_now();
    fill(lane, slot.samples, 0, request.grad_scale, request.seed, request.step);
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
    gather[i] = gathered - start;
    compute[i] = seconds_now() - gathered;
  });

  for (int64_t i = 0; i < count; ++i) {
    result.gather_seconds += gather[i];
    result.compute_seconds += compute[i];
  }
  if (request.statistics) result.attention = summarize(statistics);
  return result;
}

namespace {
constexpr int64_t kChunk = 1 << 16;  // elements; fixed, so that sums do not depend on the number of threads
int64_t chunks(int64_t n) { return (n + kChunk - 1) / kChunk; }
}  // namespace

void Engine::freeze(const Ranges& frozen) {
  trained_.clear();
  for (const auto& [from, to] : outside(frozen, table_.length))
    for (int64_t at = from; at < to; at += kChunk) trained_.emplace_back(at, std::min(at + kChunk, to));
}

void Engine::update(const UpdateRequest& u) {
  {
    std::unique_lock lock(snapshot_mutex_);
    snapshot_done_.wait(lock, [&] { return !snapshot_running_; });
  }
  if (group_) group_->wait_released();
  const kernels::AdamW o = u.constants();
  const float* g = group_ ? group_->sum() : sums_->parts().at(0).data;
  float* ema = has(State::Ema) && u.ema_decay != 1 ? state(State::Ema) : nullptr;
  share_out(static_cast<int64_t>(trained_.size()), [&](int64_t i) {
    const auto [at, end] = trained_[i];
    kernels::cpu().raw.adamw(state(State::Master) + at, state(State::M) + at, state(State::V) + at,
                             ema ? ema + at : nullptr, weights16_ ? weights16_.as<bf16>() + at : nullptr,
                             g + at, end - at, o);
  });
  if (ema) ema16_stale_ = true;
}

void Engine::parameters_changed() {
  crop();
  ema16_stale_ = true;
  if (!weights16_) return;
  pool_.parallel(chunks(table_.length), [&](int64_t i, int) {
    const int64_t at = i * kChunk;
    kernels::cpu().b16.from_f32(weights16_.as<bf16>() + at, state(State::Master) + at,
                                std::min(kChunk, table_.length - at));
  });
}

void Engine::snapshot(std::function<void()> done) {
  {
    std::unique_lock lock(snapshot_mutex_);
    snapshot_done_.wait(lock, [&] { return !snapshot_running_; });
    snapshot_running_ = true;
  }
  if (group_) group_->hold();
  if (snapshot_thread_.joinable()) snapshot_thread_.join();
  snapshot_thread_ = std::thread([this, done = std::move(done)] {
    for (int s = 0; s < 4; ++s) {
      if (!state_[s]) continue;
      if (!snapshot_[s]) snapshot_[s] = Buffer(state_[s].bytes());
      std::memcpy(snapshot_[s].data(), state_[s].data(), state_[s].bytes());
    }
    {
      std::lock_guard lock(snapshot_mutex_);
      snapshot_running_ = false;
    }
    snapshot_done_.notify_all();
    if (group_) group_->release();
    done();
  });
}

}  // namespace orch
