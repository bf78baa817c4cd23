// Forward passes on the CPU: validation, sampling, and single cases with their gradients.
#include <cstring>

#include "../core/error.h"
#include "host_lane.h"

namespace orch {

void HostEngine::bind(Lane& lane, State weights, float* gradient) {
  bf16* copy = weights == State::Ema ? ema16_.as<bf16>() : weights16_.as<bf16>();
  lane.executor.bind_flat(flat(weights), copy, gradient);
}

void HostEngine::prepare_forward(State weights) {
  if (weights == State::Ema) {
    if (!has(State::Ema)) throw Error("ERR_NO_EMA", "This engine has no EMA weights");
    if (spec_.compute == DType::BF16 && ema16_stale_) {
      if (!ema16_) ema16_ = Buffer(static_cast<size_t>(table_.length) * sizeof(bf16));
      kernels::cpu().b16.from_f32(ema16_.as<bf16>(), flat(State::Ema), table_.length);
      ema16_stale_ = false;
    }
  }
  if (!forward_.graph) {
    forward_.graph = build_mmdit(spec_.model, table_, spec_.shape, {spec_.compute, spec_.residual, false});
    forward_.lanes.resize(lanes());
  }
}

HostEngine::Lane& HostEngine::forward_lane(int i, State weights) {
  auto& lane = forward_.lanes[i];
  if (!lane)
    lane = std::make_unique<Lane>(*forward_.graph, spec_, cropped_.as<float>(), spec_.threads_per_slot);
  bind(*lane, weights, nullptr);
  return *lane;
}

std::vector<float> HostEngine::evaluate(const SampleBatch& batch, State weights, uint64_t seed,
                                        uint32_t step) {
  check(batch);
  prepare_forward(weights);
  const int64_t size = spec_.shape.samples, count = batch.count();
  std::vector<float> losses(count);
  each_slot((count + size - 1) / size, [&](int64_t i, int at) {
    Lane& lane = forward_lane(at, weights);
    gather(lane.pointers(), batch, i * size, 0, seed, step);
    lane.mix(latent_elements());
    lane.executor.run(nullptr, nullptr);
    std::memcpy(&losses[i * size], lane.executor.data(forward_.graph->loss),
                sizeof(float) * std::min(size, count - i * size));
  });
  return losses;
}

std::vector<float> HostEngine::predict(const RawBatch& batch, State weights) {
  check(batch);
  prepare_forward(weights);
  const int64_t size = spec_.shape.samples, count = batch.count(), elements = latent_elements();
  std::vector<float> velocity(count * elements);
  each_slot((count + size - 1) / size, [&](int64_t i, int at) {
    Lane& lane = forward_lane(at, weights);
    gather(lane.pointers(), batch, i * size);
    lane.executor.run(nullptr, nullptr);
    std::memcpy(&velocity[i * size * elements], lane.executor.data(forward_.graph->velocity),
                sizeof(float) * elements * std::min(size, count - i * size));
  });
  return velocity;
}

void HostEngine::observe(const RawBatch& batch, State weights, const Seen& seen) {
  check(batch);
  prepare_forward(weights);
  const int64_t size = spec_.shape.samples;
  const auto& nodes = forward_.graph->graph.nodes();
  each_slot((batch.count() + size - 1) / size, [&](int64_t call, int at) {
    Lane& lane = forward_lane(at, weights);
    gather(lane.pointers(), batch, call * size);
    const Operand operand = [&lane](graph::Ref r) { return lane.executor.data(r); };
    const std::function<void(int64_t)> after = [&](int64_t index) {
      seen(call, forward_.graph->graph, nodes[index], operand);
    };
    lane.executor.run(nullptr, &after);
  });
}

CaseResult HostEngine::evaluate_case(const RawBatch& batch, const std::vector<float>& target,
                                     bool gradients) {
  check_case(batch, target);
  const int64_t samples = spec_.shape.samples;
  auto built = build_mmdit(spec_.model, table_, spec_.shape,
                           {spec_.compute, spec_.residual, gradients, gradients, spec_.recompute});
  Lane lane(*built, spec_, cropped_.as<float>(), spec_.threads_per_slot);
  Buffer gradient(gradients ? static_cast<size_t>(table_.length) * sizeof(float) : 0);
  bind(lane, State::Master, gradient.as<float>());
  gather(lane.pointers(), batch, 0);
  std::memcpy(lane.target.data(), target.data(), sizeof(float) * target.size());
  for (int64_t i = 0; i < samples; ++i) lane.grad_scale.as<float>()[i] = 1.0f / static_cast<float>(samples);
  pool_.parallel(1, [&](int64_t, int) { lane.executor.run(nullptr, nullptr); });

  CaseResult result;
  const float* v = static_cast<const float*>(lane.executor.data(built->velocity));
  result.velocity.assign(v, v + target.size());
  const float* loss = static_cast<const float*>(lane.executor.data(built->loss));
  result.loss = 0;
  for (int64_t i = 0; i < samples; ++i) result.loss += loss[i] / static_cast<double>(samples);
  if (!gradients) return result;
  for (const Parameter& p : table_.parameters) {
    const float* g = gradient.as<float>() + p.offset;
    result.gradients.emplace_back(p.name, std::vector<float>(g, g + p.length));
  }
  for (graph::Ref input : {built->z, built->context, built->pooled}) {
    const float* g = static_cast<const float*>(lane.executor.data(built->graph.reverse().of(input)));
    const auto& value = built->graph[input];
    result.gradients.emplace_back(value.name, std::vector<float>(g, g + graph::elements(value.shape)));
  }
  return result;
}

}  // namespace orch
