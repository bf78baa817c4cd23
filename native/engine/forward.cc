// Forward passes: validation, sampling, and single cases with their gradients.
#include <algorithm>
#include <cstring>

#include "../core/watchdog.h"
#include "lane.h"

namespace orch {

void Engine::forward(int64_t count, State weights,
                     const std::function<void(Lane&, bf16*, int64_t, int64_t)>& pass) {
  const bool cpu = device_.is_cpu();
  const InStage now_at(cpu ? Stage::Compute : Stage::Device);
  bf16* const weights16 = prepare(weights);
  if (!forward_graph_)
    forward_graph_ =
        build_model(spec_.model, table_, spec_.shape,
                    {spec_.compute, spec_.residual, false, false, Recompute::Nothing, spec_.float8, device_});
  const int64_t size = spec_.shape.samples;
  each_slot((count + size - 1) / size, forward_lanes_, *forward_graph_, [&](int64_t call, Lane& lane) {
    pass(lane, weights16, call * size, std::min(size, count - call * size));
    // It has waited for its result.
    if (!cpu) tick_device();
  });
}

std::vector<float> Engine::evaluate(const SampleBatch& batch, State weights, uint64_t seed, uint32_t step) {
  check(batch);
  const Source source{batch, 0, seed, step};
  std::vector<float> losses(batch.count());
  forward(batch.count(), weights, [&](Lane& lane, bf16* weights16, int64_t from, int64_t count) {
    stage(lane, source, from);
    take_mixed(lane);
    lane.run(flat(weights), weights16, nullptr, false);
    device_.download(&losses[from], lane.executor.data(forward_graph_->loss), sizeof(float) * count);
  });
  return losses;
}

std::vector<float> Engine::predict(const RawBatch& batch, State weights) {
  check(batch);
  const int64_t elements = latent_elements();
  std::vector<float> velocity(batch.count() * elements);
  forward(batch.count(), weights, [&](Lane& lane, bf16* weights16, int64_t from, int64_t count) {
    // The target of the loss, which is not read.
    device_.fill(lane.inputs.target, 0, sizeof(float) * spec_.shape.samples * elements);
    fill(lane, batch, from);
    lane.run(flat(weights), weights16, nullptr, false);
    device_.download(&velocity[from * elements], lane.executor.data(forward_graph_->velocity),
                     sizeof(float) * elements * count);
  });
  return velocity;
}

void Engine::observe(const RawBatch& batch, State weights, const Seen& seen) {
  check(batch);
  forward(batch.count(), weights, [&](Lane& lane, bf16* weights16, int64_t from, int64_t) {
    const graph::Graph& g = forward_graph_->graph;
    fill(lane, batch, from);
    std::vector<char> bytes;
    const Operand operand = [&](graph::Ref r) -> const void* {
      if (device_.is_cpu()) return lane.executor.data(r);
      bytes.resize(static_cast<size_t>(graph::elements(g[r].shape)) * size_of(g[r].dtype));
      device_.download(bytes.data(), lane.executor.data(r), bytes.size());
      return bytes.data();
    };
    const std::function<void(int64_t)> after = [&](int64_t node) {
      seen(from / spec_.shape.samples, g, g.nodes()[node], operand);
    };
    lane.run(flat(weights), weights16, nullptr, false, &after);
  });
}

CaseResult Engine::evaluate_case(const RawBatch& batch, const std::vector<float>& target, bool gradients) {
  check(batch);
  const int64_t samples = spec_.shape.samples;
  if (batch.count() != samples || target.size() != batch.z.size())
    throw Error("ERR_TENSOR_SHAPE", "A case must have exactly ", samples,
                " samples and a target of the latent's shape");
  const auto built = build_model(
      spec_.model, table_, spec_.shape,
      {spec_.compute, spec_.residual, gradients, gradients, spec_.recompute, spec_.float8, device_});
  Lane lane(device_, *built, spec_, cropped_.as<float>());
  // A read of memory that was not written shows as NaN.
  device_.fill(lane.executor.arena().data(), 0xff, lane.executor.arena().bytes());
  const Buffer gradient = device_.allocate(gradients ? flat_bytes() : 0);
  device_.fill(gradient.data(), 0xff, gradient.bytes());
  fill(lane, batch, 0);
  const std::vector<float> scale(samples, 1.0f / static_cast<float>(samples));
  device_.upload(lane.inputs.target, target.data(), sizeof(float) * target.size());
  device_.upload(lane.inputs.grad_scale, scale.data(), sizeof(float) * samples);
  lane.run(flat(State::Master), prepare(State::Master), gradients ? gradient.as<float>() : nullptr, false);

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
