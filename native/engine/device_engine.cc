#include "device_engine.h"

#include <algorithm>

#include "../core/clock.h"
#include "../core/error.h"
#include "../kernels/digest.h"
#include "device_lane.h"

namespace orch {

using graph::DeviceMemory;

DeviceEngine::DeviceEngine(const EngineSpec& spec, graph::Device& device)
    : Engine(spec, device), device_(device), pool_(std::max(1, spec.threads)) {
  const size_t bytes = static_cast<size_t>(table_.length) * sizeof(float);
  mark_copies_stale();
  for (State s : kStates) {
    if (!has(s)) continue;
    auto& memory = state_[static_cast<int>(s)];
    memory = DeviceMemory(device_, bytes);
    device_.fill(memory.data(), 0, bytes);
  }
  if (spec.training) {
    sums_ = std::make_unique<DeviceSums>(device_, table_.length);
    squares_ = DeviceMemory(device_, sizeof(double));
    adamw_ = DeviceMemory(device_, sizeof(kernels::AdamW));
    adamw_host_ = DeviceMemory(device_, sizeof(kernels::AdamW), true);
  }
  if (spec.compute == DType::BF16) weights16_ = DeviceMemory(device_, bytes / 2);
  cropped_ = DeviceMemory(device_, static_cast<size_t>(cropped_elements()) * sizeof(float));
}

DeviceEngine::~DeviceEngine() = default;

float* DeviceEngine::state(State s, size_t parameter) {
  const int i = static_cast<int>(s);
  const Parameter& p = table_.parameters[parameter];
  if (!copies_[i]) copies_[i] = Buffer(state_[i].bytes());
  float* const copy = copies_[i].as<float>() + p.offset;
  if (!current_[i][parameter]) device_.download(copy, on_device(s) + p.offset, sizeof(float) * p.length);
  current_[i][parameter] = true;
  return copy;
}

void DeviceEngine::mark_copies_stale() {
  for (auto& current : current_) current.assign(table_.parameters.size(), false);
}

void DeviceEngine::parameters_changed() {
  for (State s : kStates)
    for (size_t i = 0; i < table_.parameters.size(); ++i) {
      const Parameter& p = table_.parameters[i];
      if (current_[static_cast<int>(s)][i])
        device_.upload(on_device(s) + p.offset, copies_[static_cast<int>(s)].as<float>() + p.offset,
                       sizeof(float) * p.length);
    }
  const Buffer cropped(cropped_.bytes());
  crop(cropped.as<float>());
  device_.upload(cropped_.data(), cropped.data(), cropped.bytes());
  if (weights16_) kernels().b16.from_f32(weights16_.as<bf16>(), on_device(State::Master), table_.length);
  ema16_stale_ = true;
  device_.synchronize();
}

void DeviceEngine::snapshot(std::function<void(std::exception_ptr)> done) {
  // The device has one compute stream: the copy runs on it, and nothing is computed meanwhile.
  std::exception_ptr failure;
  try {
    for (int s = 0; s < 4; ++s) {
      if (!state_[s]) continue;
      if (!snapshot_[s]) snapshot_[s] = Buffer(state_[s].bytes());
      device_.download(snapshot_[s].data(), state_[s].data(), state_[s].bytes());
    }
  } catch (...) {
    failure = std::current_exception();
  }
  done(failure);
}

std::vector<uint64_t> DeviceEngine::piece_digests(State s) {
  std::vector<uint64_t> lanes(kernels::digest_pieces(table_.length) * kernels::kDigestLanes);
  const DeviceMemory on_device_lanes(device_, lanes.size() * sizeof(uint64_t));
  kernels().raw.digest(on_device_lanes.as<uint64_t>(), on_device(s), table_.length);
  device_.download(lanes.data(), on_device_lanes.data(), on_device_lanes.bytes());
  return lanes;
}

// --- a slot

DeviceEngine::Lane& DeviceEngine::training_lane() {
  if (!training_lane_) training_lane_ = std::make_unique<Lane>(device_, *graph_, spec_, cropped_.as<float>());
  return *training_lane_;
}

DeviceEngine::Lane& DeviceEngine::forward_lane() {
  if (!forward_lane_) {
    forward_graph_ = build_model(spec_.model, table_, spec_.shape,
                                 {spec_.compute, spec_.residual, false, false, Recompute::Nothing, device_});
    forward_lane_ = std::make_unique<Lane>(device_, *forward_graph_, spec_, cropped_.as<float>());
  }
  return *forward_lane_;
}

bf16* DeviceEngine::prepare(State weights) {
  if (weights != State::Ema) return weights16_.as<bf16>();
  if (!has(State::Ema)) throw Error("ERR_NO_EMA", "This engine has no EMA weights");
  if (spec_.compute == DType::BF16 && std::exchange(ema16_stale_, false)) {
    if (!ema16_) ema16_ = DeviceMemory(device_, weights16_.bytes());
    kernels().b16.from_f32(ema16_.as<bf16>(), on_device(State::Ema), table_.length);
  }
  return ema16_.as<bf16>();
}

void DeviceEngine::run(Lane& lane, State weights, float* gradient, bool statistics) {
  bf16* const copy = prepare(weights);
  lane.run(on_device(weights), copy, gradient, statistics);
}

void DeviceEngine::stage(Lane& lane, const SlotSource& of, int64_t from) {
  lane.stage([&](const SlotInputs& to) { gather(to, of.samples, from, of.grad_scale, of.seed, of.step); });
}

void DeviceEngine::take_mixed(Lane& lane) {
  lane.take([&] {
    const SlotInputs &to = lane.inputs.at, &from = lane.incoming.at;
    kernels().raw.mix_noise(to.z, to.target, from.x0, from.mixes, spec_.shape.samples, latent_elements());
  });
}

void DeviceEngine::fill(Lane& lane, const RawBatch& batch, int64_t from) {
  lane.stage([&](const SlotInputs& to) { gather(to, batch, from); });
  lane.take([&] { device_.copy(lane.inputs.at.z, lane.incoming.at.z, lane.inputs.latent_bytes); });
}

// --- training

AccumulateResult DeviceEngine::accumulate(const AccumulateRequest& request,
                                          std::function<void(int)> on_bucket) {
  check(request);
  const int64_t count = static_cast<int64_t>(request.slots.size()), samples = spec_.shape.samples;
  {
    std::lock_guard lock(parts_mutex_);
    parts_.clear();
  }
  sums_->begin(request.slots[0].slot, request.slots[0].slot + count, request.total_slots);

  Lane& lane = training_lane();
  const int attentions = graph_->graph.attentions();
  const size_t loss_bytes = sizeof(float) * samples;
  if (losses_.bytes() < loss_bytes * count) {
    losses_ = DeviceMemory(device_, loss_bytes * count);
    statistics_ = DeviceMemory(device_, lane.statistics.bytes() * count);
  }
  const auto source = [&](const SampleBatch& batch, uint32_t step) {
    return SlotSource{batch, request.grad_scale, request.seed, step};
  };
  AccumulateResult result;
  const double start = seconds_now();
  const auto timed_stage = [&](const SlotSource& of) {
    const double began = seconds_now();
    stage(lane, of);
    result.gather_seconds += seconds_now() - began;
  };
  const SlotSource first = source(request.slots[0].samples, request.step);
  if (!(std::exchange(lane.prefetched, std::nullopt) == first)) timed_stage(first);
  try {
    for (int64_t i = 0; i < count; ++i) {
      take_mixed(lane);
      float* gradient = sums_->acquire();
      run(lane, State::Master, gradient, request.statistics);
      device_.copy(losses_.as<char>() + i * loss_bytes, lane.executor.data(graph_->loss), loss_bytes);
      if (request.statistics)
        device_.copy(statistics_.as<char>() + i * lane.statistics.bytes(), lane.statistics.data(),
                     lane.statistics.bytes());
      sums_->complete(gradient);
      // The next slot's rows are gathered and uploaded while the device computes this one.
      if (i + 1 < count) timed_stage(source(request.slots[i + 1].samples, request.step));
    }
  } catch (...) {
    sums_->abandon();
    throw;
  }
  const auto sums = sums_->parts();
  const bool whole = sums.size() == 1 && sums[0].lo == 0 && sums[0].hi == request.total_slots,
             exchange = !whole && !connected();
  norm_enqueued_ = false;
  if (whole) enqueue_norm();  // now, so that the host waits only once
  if (request.next) try {
      SlotSource next = source(*request.next, request.step + 1);
      timed_stage(next);
      lane.prefetched = std::move(next);
    } catch (const Error&) {  // the next step throws it again
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

  std::vector<GradientPart> parts;
  for (size_t i = 0; i < sums.size(); ++i) {
    if (exchange && host_parts_.size() <= i)
      host_parts_.emplace_back(static_cast<size_t>(table_.length) * sizeof(float));
    parts.push_back({sums[i].lo, sums[i].hi, exchange ? host_parts_[i].as<float>() : nullptr});
  }
  {
    std::lock_guard lock(parts_mutex_);
    parts_ = parts;
  }
  for (size_t b = 0; b < table_.buckets.size(); ++b) {
    const Bucket& bucket = table_.buckets[b];
    if (exchange)
      for (size_t i = 0; i < sums.size(); ++i)
        device_.download(parts[i].data + bucket.offset, sums[i].data + bucket.offset,
                         sizeof(float) * bucket.length);
    on_bucket(static_cast<int>(b));
  }
  return result;
}

float* DeviceEngine::gradient() const {
  check_training();
  const auto sums = sums_->parts();
  if (sums.empty()) no_gradient();
  return sums[0].data;
}

void DeviceEngine::enqueue_norm() {
  const float* gradient = this->gradient();
  norms_[gradient](device_, [this, gradient] {
    device_.fill(squares_.data(), 0, sizeof(double));
    for (const auto& [from, to] : trained_)
      kernels().raw.add_squares(squares_.as<double>(), gradient + from, to - from);
  });
  norm_enqueued_ = true;
}

Engine::Norm DeviceEngine::gradient_norm() {
  float* const gradient = this->gradient();
  // The sum over the workers was written to the host memory of the first part.
  if (!parts_.empty() && parts_[0].data)
    device_.upload(gradient, parts_[0].data, static_cast<size_t>(table_.length) * sizeof(float));
  if (!norm_enqueued_) enqueue_norm();
  norm_enqueued_ = false;
  double sum = 0;
  device_.download(&sum, squares_.data(), sizeof sum);
  return norm(kernels(), gradient, sum);
}

std::string DeviceEngine::offer_device(int rank, const std::vector<SlotRange>& slots) {
  auto exchange = std::make_unique<DeviceExchange>(device_, rank, slots, table_.length);
  std::string rendezvous = exchange->rendezvous();
  std::lock_guard lock(exchange_mutex_);
  exchange_ = std::move(exchange);
  return rendezvous;
}

void DeviceEngine::connect_devices(const std::string& leader) {
  if (!exchange_) throw Error("ERR_INTERNAL", "connect_devices: offer_device was not called");
  exchange_->connect(leader);
}

void DeviceEngine::abandon_devices() {
  std::lock_guard lock(exchange_mutex_);
  if (exchange_) exchange_->abort();
}

Engine::Norm DeviceEngine::reduce() {
  const int64_t received = connected() ? exchange_->sum(sums_->parts()) : 0;
  Norm result = gradient_norm();
  result.received = received;
  return result;
}

void DeviceEngine::freeze(const Ranges& frozen) {
  Engine::freeze(frozen);
  norms_.clear();
  updates_.clear();
}

void DeviceEngine::update(const UpdateRequest& u) {
  device_.await_event(adamw_uploaded_);
  *adamw_host_.as<kernels::AdamW>() = u.constants();
  device_.upload(adamw_.data(), adamw_host_.data(), adamw_.bytes());
  adamw_uploaded_ = device_.record_event();
  const float* gradient = this->gradient();
  const bool ema = has(State::Ema) && u.ema_decay != 1;
  updates_[{gradient, ema}](device_, [this, gradient, ema] {
    for (const auto& [from, to] : trained_)
      kernels().raw.adamw(on_device(State::Master) + from, on_device(State::M) + from,
                          on_device(State::V) + from, ema ? on_device(State::Ema) + from : nullptr,
                          weights16_ ? weights16_.as<bf16>() + from : nullptr, gradient + from, to - from,
                          adamw_.as<kernels::AdamW>());
  });
  if (ema) ema16_stale_ = true;
  mark_copies_stale();
}

}  // namespace orch
