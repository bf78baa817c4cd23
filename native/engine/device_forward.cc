// Forward passes on a device: validation, sampling, and single cases with their gradients.
#include "../core/error.h"
#include "device_lane.h"

namespace orch {

using graph::DeviceMemory;

std::vector<float> DeviceEngine::evaluate(const SampleBatch& batch, State weights, uint64_t seed,
                                          uint32_t step) {
  check(batch);
  Lane& lane = forward_lane();
  const int64_t size = spec_.shape.samples, count = batch.count();
  std::vector<float> losses(count);
  for (int64_t at = 0; at < count; at += size) {
    stage(lane, {batch, 0, seed, step}, at);
    take_mixed(lane);
    run(lane, weights, nullptr, false);
    device_.download(&losses[at], lane.executor.data(forward_graph_->loss),
                     sizeof(float) * std::min(size, count - at));
  }
  return losses;
}

std::vector<float> DeviceEngine::predict(const RawBatch& batch, State weights) {
  check(batch);
  Lane& lane = forward_lane();
  const int64_t size = spec_.shape.samples, count = batch.count(), elements = latent_elements();
  device_.fill(lane.inputs.at.target, 0, lane.inputs.latent_bytes);  // target of the loss, which is not read
  std::vector<float> velocity(count * elements);
  for (int64_t at = 0; at < count; at += size) {
    fill(lane, batch, at);
    run(lane, weights, nullptr, false);
    device_.download(&velocity[at * elements], lane.executor.data(forward_graph_->velocity),
                     sizeof(float) * elements * std::min(size, count - at));
  }
  return velocity;
}

void DeviceEngine::observe(const RawBatch& batch, State weights, const Seen& seen) {
  check(batch);
  Lane& lane = forward_lane();
  const graph::Graph& g = forward_graph_->graph;
  std::vector<char> bytes;
  const Operand operand = [&](graph::Ref r) {
    bytes.resize(static_cast<size_t>(graph::elements(g[r].shape)) * size_of(g[r].dtype));
    device_.download(bytes.data(), lane.executor.data(r), bytes.size());
    return bytes.data();
  };
  bf16* const copy = prepare(weights);
  lane.executor.bind_flat(on_device(weights), copy, nullptr);
  for (int64_t call = 0; call * spec_.shape.samples < batch.count(); ++call) {
    fill(lane, batch, call * spec_.shape.samples);
    const std::function<void(int64_t)> after = [&](int64_t index) {
      seen(call, g, g.nodes()[index], operand);
    };
    lane.executor.run(nullptr, &after);
  }
}

CaseResult DeviceEngine::evaluate_case(const RawBatch& batch, const std::vector<float>& target,
                                       bool gradients) {
  check_case(batch, target);
  const int64_t samples = spec_.shape.samples;
  auto built = build_mmdit(spec_.model, table_, spec_.shape,
                           {spec_.compute, spec_.residual, gradients, gradients, spec_.recompute, device_});
  Lane lane(device_, *built, spec_, cropped_.as<float>());
  device_.fill(lane.arena.data(), 0xff,
               lane.arena.bytes());  // a read of memory that was not written shows as NaN
  DeviceMemory gradient;
  if (gradients) {
    gradient = DeviceMemory(device_, static_cast<size_t>(table_.length) * sizeof(float));
    device_.fill(gradient.data(), 0xff, gradient.bytes());
  }
  fill(lane, batch, 0);
  const std::vector<float> scale(samples, 1.0f / static_cast<float>(samples));
  device_.upload(lane.inputs.at.target, target.data(), sizeof(float) * target.size());
  device_.upload(lane.inputs.at.grad_scale, scale.data(), sizeof(float) * samples);
  run(lane, State::Master, gradient.as<float>(), false);

  CaseResult result;
  const auto read = [&](const void* from, int64_t n) {
    std::vector<float> values(n);
    device_.download(values.data(), from, sizeof(float) * n);
    return values;
  };
  result.velocity = read(lane.executor.data(built->velocity), static_cast<int64_t>(target.size()));
  result.loss = 0;
  for (float l : read(lane.executor.data(built->loss), samples))
    result.loss += l / static_cast<double>(samples);
  if (!gradients) return result;
  for (const Parameter& p : table_.parameters)
    result.gradients.emplace_back(p.name, read(gradient.as<float>() + p.offset, p.length));
  for (graph::Ref input : {built->z, built->context, built->pooled}) {
    const auto& value = built->graph[input];
    result.gradients.emplace_back(
        value.name, read(lane.executor.data(built->graph.reverse().of(input)), graph::elements(value.shape)));
  }
  return result;
}

}  // namespace orch
