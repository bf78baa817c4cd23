#include "device_engine.h"

#include <cmath>
#include <cstring>

#include "../core/error.h"
#include "clock.h"
#include "device_lane.h"

namespace orch {

using graph::DeviceMemory;

DeviceEngine::DeviceEngine(const EngineSpec& spec, graph::Device& device)
    : spec_(spec),
      device_(device),
      table_(spec.model),
      graph_(build_mmdit(spec.model, table_, spec.shape,
                         {spec.compute, spec.residual, spec.training, false, spec.recompute, device})),
      pool_(std::max(1, spec.threads)) {
  const size_t bytes = static_cast<size_t>(table_.length) * sizeof(float);
  const auto allocate = [&](State s) {
    auto& memory = state_[static_cast<int>(s)];
    memory = DeviceMemory(device_, bytes);
    device_.fill(memory.data(), 0, bytes);
  };
  allocate(State::Master);
  if (spec.ema) allocate(State::Ema);
  if (spec.training) {
    allocate(State::M);
    allocate(State::V);
    sums_ = std::make_unique<DeviceSums>(device_, table_.length);
  }
  if (spec.compute == DType::BF16) weights16_ = DeviceMemory(device_, bytes / 2);
  positions_ = Buffer(static_cast<size_t>(position_elements()) * sizeof(float));
  position_table(spec.model, positions());
  const int64_t grid = (spec.shape.height / spec.model.patch) * (spec.shape.width / spec.model.patch);
  cropped_ = DeviceMemory(device_, static_cast<size_t>(grid * spec.model.hidden()) * sizeof(float));
  freeze({});
}

DeviceEngine::~DeviceEngine() = default;

int64_t DeviceEngine::position_elements() const {
  return spec_.model.pos_embed_max_size * spec_.model.pos_embed_max_size * spec_.model.hidden();
}

float* DeviceEngine::state(State s) {
  Buffer& host = host_state_[static_cast<int>(s)];
  if (!host) host = Buffer(state_[static_cast<int>(s)].bytes());
  return host.as<float>();
}

void DeviceEngine::fetch() {
  for (int s = 0; s < 4; ++s)
    if (state_[s]) device_.download(state(static_cast<State>(s)), state_[s].data(), state_[s].bytes());
}

void DeviceEngine::initialize(uint64_t seed) {
  pool_.parallel(static_cast<int64_t>(table_.parameters.size()), [&](int64_t i, int) {
    const Parameter& p = table_.parameters[i];
    initial_values(p, state(State::Master) + p.offset, seed);
  });
  if (has(State::Ema))
    std::copy(state(State::Master), state(State::Master) + table_.length, state(State::Ema));
  parameters_changed();
}

void DeviceEngine::parameters_changed() {
  for (int s = 0; s < 4; ++s)
    if (host_state_[s]) device_.upload(state_[s].data(), host_state_[s].data(), state_[s].bytes());
  Buffer cropped(cropped_.bytes());
  crop_positions(spec_.model, positions(), spec_.shape.height / spec_.model.patch,
                 spec_.shape.width / spec_.model.patch, cropped.as<float>());
  device_.upload(cropped_.data(), cropped.data(), cropped.bytes());
  if (weights16_) kernels().b16.from_f32(weights16_.as<bf16>(), on_device(State::Master), table_.length);
  ema16_stale_ = true;
  device_.synchronize();
}

void DeviceEngine::attach(std::shared_ptr<const Dataset> dataset, const TextSpec& text) {
  assembler_ = std::make_unique<BatchAssembler>(std::move(dataset), text, latent_elements());
}

// --- a slot
// ------------------------------------------------------------------------------------------------------

DeviceEngine::Lane& DeviceEngine::training_lane() {
  if (!training_lane_) training_lane_ = std::make_unique<Lane>(device_, *graph_, spec_, cropped_.as<float>());
  return *training_lane_;
}

DeviceEngine::Lane& DeviceEngine::forward_lane() {
  if (!forward_lane_) {
    forward_graph_ = build_mmdit(spec_.model, table_, spec_.shape,
                                 {spec_.compute, spec_.residual, false, false, Recompute::Nothing, device_});
    forward_lane_ = std::make_unique<Lane>(device_, *forward_graph_, spec_, cropped_.as<float>());
  }
  return *forward_lane_;
}

void DeviceEngine::run(Lane& lane, State weights, float* gradient, bool statistics) {
  if (weights == State::Ema) {
    if (!has(State::Ema)) throw Error("ERR_NO_EMA", "This engine holds no EMA weights");
    if (spec_.compute == DType::BF16 && ema16_stale_) {
      if (!ema16_) ema16_ = DeviceMemory(device_, weights16_.bytes());
      kernels().b16.from_f32(ema16_.as<bf16>(), on_device(State::Ema), table_.length);
      ema16_stale_ = false;
    }
  }
  lane.run(on_device(weights), (weights == State::Ema ? ema16_ : weights16_).as<bf16>(), gradient,
           statistics);
}

void DeviceEngine::fill(Lane& lane, const SampleBatch& batch, int64_t from, float grad_scale, uint64_t seed,
                        uint32_t step) {
  if (!assembler_) throw Error("ERR_INTERNAL", "No dataset is attached to the engine");
  // The last chunk of an evaluation may be short; its free places repeat the last sample and are not read.
  const int64_t n = spec_.shape.samples, elements = latent_elements(), last = batch.count() - 1;
  std::vector<int64_t> rows(n);
  std::vector<uint8_t> synthetic(n), dropped(n);
  Inputs& host = lane.next_staging();
  for (int64_t i = 0; i < n; ++i) {
    const int64_t s = std::min(from + i, last);
    rows[i] = batch.rows[s];
    synthetic[i] = batch.synthetic[s];
    dropped[i] = batch.dropped[s];
    host.grad_scale.as<float>()[i] = batch.coefficients[6 * s + 4] * grad_scale;
    host.timestep.as<float>()[i] = batch.coefficients[6 * s + 5];
  }
  const BatchRows r{n, rows.data(), synthetic.data(), dropped.data()};
  if (spec_.compute == DType::BF16)
    assembler_->assemble(r, host.x0.as<float>(), host.context.as<bf16>(), host.pooled.as<bf16>());
  else
    assembler_->assemble(r, host.x0.as<float>(), host.context.as<float>(), host.pooled.as<float>());
  for (auto member : {&Inputs::x0, &Inputs::context, &Inputs::pooled, &Inputs::timestep, &Inputs::grad_scale})
    lane.upload(lane.inputs.*member, host.*member);
  lane.staged();
  for (int64_t i = 0; i < n; ++i) {
    const int64_t s = std::min(from + i, last);
    const float* c = &batch.coefficients[6 * s];
    kernels().raw.mix_noise(lane.inputs.z.as<float>() + i * elements,
                            lane.inputs.target.as<float>() + i * elements,
                            lane.inputs.x0.as<float>() + i * elements, c[0], c[1], c[2], c[3],
                            {seed, 0, step, batch.sample_ids[s]}, elements);
  }
}

void DeviceEngine::fill(Lane& lane, const RawBatch& batch, int64_t from) {
  const int64_t n = std::min(spec_.shape.samples, batch.count() - from);
  const int64_t z = latent_elements(), c = context_elements(), p = spec_.model.pooled_dim;
  Inputs& host = lane.next_staging();
  std::memcpy(host.z.data(), &batch.z[from * z], sizeof(float) * n * z);
  std::memcpy(host.timestep.data(), &batch.timestep[from], sizeof(float) * n);
  const auto text = [&](const DeviceMemory& to, const float* values, int64_t count) {
    if (spec_.compute == DType::BF16)
      kernels::cpu().b16.from_f32(to.as<bf16>(), values, count);
    else
      std::memcpy(to.data(), values, sizeof(float) * count);
  };
  text(host.context, &batch.context[from * c], n * c);
  text(host.pooled, &batch.pooled[from * p], n * p);
  for (auto member : {&Inputs::z, &Inputs::context, &Inputs::pooled, &Inputs::timestep})
    lane.upload(lane.inputs.*member, host.*member);
  lane.staged();
}

// --- training
// ------------------------------------------------------------------------------------------------------

AccumulateResult DeviceEngine::accumulate(const AccumulateRequest& request,
                                          const std::function<void(int)>& on_bucket) {
  if (!spec_.training) throw Error("ERR_INTERNAL", "This engine was made for inference");
  const int64_t count = static_cast<int64_t>(request.slots.size()), samples = spec_.shape.samples;
  if (count == 0) throw Error("ERR_INTERNAL", "accumulate: no slots");
  for (int64_t i = 0; i < count; ++i)
    if (request.slots[i].samples.count() != samples || request.slots[i].slot != request.slots[0].slot + i)
      throw Error("ERR_TENSOR_SHAPE", "Slots must be contiguous, of " + std::to_string(samples) + " samples");
  sums_->begin(request.slots[0].slot, request.slots[0].slot + count, request.total_slots);

  Lane& lane = training_lane();
  const int attentions = graph_->graph.attentions();
  const size_t loss_bytes = sizeof(float) * samples;
  if (losses_.bytes() < loss_bytes * count) {
    losses_ = DeviceMemory(device_, loss_bytes * count);
    statistics_ = DeviceMemory(device_, lane.statistics.bytes() * count);
  }
  AccumulateResult result;
  const double start = seconds_now();
  // The next slot's rows are gathered while the device works on those before.
  for (int64_t i = 0; i < count; ++i) {
    const double began = seconds_now();
    fill(lane, request.slots[i].samples, 0, request.grad_scale, request.seed, request.step);
    result.gather_seconds += seconds_now() - began;
    float* gradient = sums_->acquire();
    run(lane, State::Master, gradient, request.statistics);
    device_.copy(losses_.as<char>() + i * loss_bytes, lane.executor.data(graph_->loss), loss_bytes);
    if (request.statistics)
      device_.copy(statistics_.as<char>() + i * lane.statistics.bytes(), lane.statistics.data(),
                   lane.statistics.bytes());
    sums_->complete(gradient);
  }
  std::vector<float> host_losses(count * samples);
  device_.download(host_losses.data(), losses_.data(), loss_bytes * count);
  result.compute_seconds = seconds_now() - start;
  for (int64_t i = 0; i < count; ++i)
    result.losses.emplace_back(host_losses.begin() + i * samples, host_losses.begin() + (i + 1) * samples);

  if (request.statistics) {
    std::vector<kernels::AttentionStats> stats(count * std::max(1, attentions));
    device_.download(stats.data(), statistics_.data(), lane.statistics.bytes() * count);
    std::vector<std::vector<kernels::AttentionStats>> by_slot;
    for (int64_t i = 0; i < count; ++i)
      by_slot.emplace_back(stats.begin() + i * attentions, stats.begin() + (i + 1) * attentions);
    result.attention = summarize(by_slot);
  }

  const auto sums = sums_->parts();
  const bool exchange = sums.size() > 1 || sums[0].lo != 0 || sums[0].hi != request.total_slots;
  parts_.clear();
  for (size_t i = 0; i < sums.size(); ++i) {
    if (exchange && host_parts_.size() <= i)
      host_parts_.emplace_back(static_cast<size_t>(table_.length) * sizeof(float));
    parts_.push_back({sums[i].lo, sums[i].hi, exchange ? host_parts_[i].as<float>() : nullptr});
  }
  for (size_t b = 0; b < table_.buckets.size(); ++b) {
    const Bucket& bucket = table_.buckets[b];
    if (exchange)
      for (size_t i = 0; i < sums.size(); ++i)
        device_.download(parts_[i].data + bucket.offset, sums[i].data + bucket.offset,
                         sizeof(float) * bucket.length);
    on_bucket(static_cast<int>(b));
  }
  return result;
}

void DeviceEngine::freeze(const Ranges& frozen) { trained_ = outside(frozen, table_.length); }

Engine::Norm DeviceEngine::gradient_norm() {
  float* const gradient = sums_->parts().at(0).data;
  // The sum over workers was put into the first part's host memory.
  if (!parts_.empty() && parts_[0].data)
    device_.upload(gradient, parts_[0].data, static_cast<size_t>(table_.length) * sizeof(float));
  double sum = 0;
  for (const auto& [from, to] : trained_) sum += kernels().raw.sum_of_squares(gradient + from, to - from);
  Engine::Norm result{std::sqrt(sum), -1};
  if (std::isfinite(result.norm)) return result;
  for (const auto& [from, to] : trained_) {
    const int64_t found = kernels().raw.first_non_finite(gradient + from, to - from);
    if (found < 0) continue;
    result.first_non_finite = from + found;
    break;
  }
  return result;
}

void DeviceEngine::update(const UpdateRequest& u) {
  const kernels::AdamW o = u.constants();
  const float* gradient = sums_->parts().at(0).data;
  const bool ema = has(State::Ema) && u.ema_decay != 1;
  for (const auto& [from, to] : trained_)
    kernels().raw.adamw(on_device(State::Master) + from, on_device(State::M) + from,
                        on_device(State::V) + from, ema ? on_device(State::Ema) + from : nullptr,
                        weights16_ ? weights16_.as<bf16>() + from : nullptr, gradient + from, to - from, o);
  if (ema) ema16_stale_ = true;
}

}  // namespace orch
