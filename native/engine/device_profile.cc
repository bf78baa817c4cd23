// Profile of a step on a device.
#include <algorithm>
#include <cmath>

#include "device_lane.h"

namespace orch {

using graph::DeviceMemory;

void DeviceEngine::random_inputs(Lane& lane) {
  const SlotInputs& in = lane.inputs.at;
  const int64_t samples = spec_.shape.samples;
  const auto draw = [&](void* to, DType type, int64_t n, uint64_t id) {
    if (type == DType::F32) return kernels().raw.normal(static_cast<float*>(to), {1, 0, 0, id}, n);
    DeviceMemory numbers(device_, sizeof(float) * n);
    kernels().raw.normal(numbers.as<float>(), {1, 0, 0, id}, n);
    kernels().b16.from_f32(static_cast<bf16*>(to), numbers.as<float>(), n);
    device_.synchronize();
  };
  draw(in.z, DType::F32, samples * latent_elements(), 1);
  draw(in.target, DType::F32, samples * latent_elements(), 2);
  draw(in.context, spec_.compute, samples * context_elements(), 3);
  draw(in.pooled, spec_.compute, samples * spec_.model.pooled_dim, 4);
  const size_t bytes = sizeof(float) * samples;
  std::vector<float> timestep(samples), scale(samples, 1.0f / static_cast<float>(samples));
  for (int64_t i = 0; i < samples; ++i)
    timestep[i] = 1000.0f * static_cast<float>(i + 1) / static_cast<float>(samples);
  device_.upload(in.timestep, timestep.data(), bytes);
  device_.upload(in.grad_scale, scale.data(), bytes);
  device_.synchronize();
}

void DeviceEngine::random_weights() {
  const int64_t n = table_.length;
  kernels().raw.normal(on_device(State::Master), {1, 0, 0, 5}, n);
  kernels().raw.scale_into(on_device(State::Master), 0.02f, n);
  if (weights16_) kernels().b16.from_f32(weights16_.as<bf16>(), on_device(State::Master), n);
  mark_copies_stale();
  const Buffer zeros(cropped_.bytes());
  device_.upload(cropped_.data(), zeros.data(), zeros.bytes());
  device_.synchronize();
}

void DeviceEngine::run_random_slot(bool statistics) {
  Lane& lane = training_lane();
  if (!std::exchange(lane.random, true)) random_inputs(lane);
  parts_.clear();
  norm_enqueued_ = false;
  sums_->begin(0, 1, 1);
  float* gradient = sums_->acquire();
  run(lane, State::Master, gradient, statistics);
  sums_->complete(gradient);
}

std::vector<ProfileRow> DeviceEngine::profile(int repeats) {
  const auto& g = graph_->graph;
  Lane& lane = training_lane();
  if (!std::exchange(lane.random, true)) random_inputs(lane);
  DeviceMemory gradient(device_, spec_.training ? static_cast<size_t>(table_.length) * sizeof(float) : 0);
  lane.executor.bind_flat(on_device(State::Master), weights16_.as<bf16>(), gradient.as<float>());
  std::vector<size_t> row_of;
  std::vector<ProfileRow> rows = profile_rows(g, row_of);
  lane.executor.run(nullptr, nullptr);
  device_.synchronize();
  for (int i = 0; i < repeats; ++i)
    for (size_t n = 0; n < g.nodes().size(); ++n)
      rows[row_of[n]].seconds += device_.time([&] { lane.executor.run_node(n, nullptr); }) / repeats;
  return rows;
}

}  // namespace orch
