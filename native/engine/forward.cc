// Forward only: validation, sampling, and single cases with their gradients.
#include <cmath>
#include <cstring>

#include "../core/error.h"
#include "lane.h"

namespace orch {

void Engine::bind(Lane& lane, State weights, float* gradient) {
  bf16* copy = weights == State::Ema ? ema16_.as<bf16>() : weights16_.as<bf16>();
  lane.executor.bind_flat(state(weights), copy, gradient);
}

void Engine::prepare_forward(State weights) {
  if (weights == State::Ema) {
    if (!has(State::Ema)) throw Error("ERR_NO_EMA", "This engine holds no EMA weights");
    if (spec_.compute == DType::BF16 && ema16_stale_) {
      if (!ema16_) ema16_ = Buffer(static_cast<size_t>(table_.length) * sizeof(bf16));
      kernels::cpu().b16.from_f32(ema16_.as<bf16>(), state(State::Ema), table_.length);
      ema16_stale_ = false;
    }
  }
  if (!forward_.graph) {
    forward_.graph = build_mmdit(spec_.model, table_, spec_.shape, {spec_.compute, spec_.residual, false});
    forward_.lanes.resize(lanes());
  }
}

Engine::Lane& Engine::forward_lane(int i, State weights) {
  auto& lane = forward_.lanes[i];
  if (!lane)
    lane = std::make_unique<Lane>(*forward_.graph, spec_, cropped_.as<float>(), spec_.threads_per_slot);
  bind(*lane, weights, nullptr);
  return *lane;
}

std::vector<float> Engine::evaluate(const SampleBatch& batch, State weights, uint64_t seed, uint32_t step) {
  check(batch);
  prepare_forward(weights);
  const int64_t size = spec_.shape.samples, count = batch.count();
  std::vector<float> losses(count);
  each_slot((count + size - 1) / size, [&](int64_t i, int at) {
    Lane& lane = forward_lane(at, weights);
    fill(lane, batch, i * size, 0, seed, step);
    lane.executor.run(nullptr, nullptr);
    std::memcpy(&losses[i * size], lane.executor.data(forward_.graph->loss),
                sizeof(float) * std::min(size, count - i * size));
  });
  return losses;
}

std::vector<float> Engine::predict(const RawBatch& batch, State weights) {
  check(batch);
  prepare_forward(weights);
  const int64_t size = spec_.shape.samples, count = batch.count(), elements = latent_elements();
  std::vector<float> velocity(count * elements);
  each_slot((count + size - 1) / size, [&](int64_t i, int at) {
    Lane& lane = forward_lane(at, weights);
    fill(lane, batch, i * size);
    lane.executor.run(nullptr, nullptr);
    std::memcpy(&velocity[i * size * elements], lane.executor.data(forward_.graph->velocity),
                sizeof(float) * elements * std::min(size, count - i * size));
  });
  return velocity;
}

namespace {

/// Sums of squares of queries and keys in rows [rows, 3 * width] of (q, k, v).
template <class T>
std::pair<double, double> sum_squares(const T* qkv, int64_t rows, int64_t width) {
  std::pair<double, double> sums{0, 0};
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < width; ++i) {
      const double q = to_float(qkv[r * 3 * width + i]), k = to_float(qkv[r * 3 * width + width + i]);
      sums.first += q * q;
      sums.second += k * k;
    }
  return sums;
}

}  // namespace

std::vector<Engine::QueryKeyRms> Engine::query_key_rms(const RawBatch& batch, State weights) {
  check(batch);
  prepare_forward(weights);
  const int64_t size = spec_.shape.samples, count = batch.count(), width = spec_.model.hidden();
  const auto& g = forward_.graph->graph;
  // In the order in which the model splits its queries and keys.
  std::vector<QueryKeyRms> result;
  for (int64_t b = 0; b < spec_.model.depth; ++b) {
    const std::string block = "joint_blocks." + std::to_string(b);
    result.push_back({block + ".context_block.attn", 0, 0});
    result.push_back({block + ".x_block.attn", 0, 0});
    if (spec_.model.dual(b)) result.push_back({block + ".x_block.attn2", 0, 0});
  }
  const int64_t calls = (count + size - 1) / size;
  // By call, then added in order, so that the sums do not depend on the threads.
  std::vector<std::vector<std::pair<double, double>>> sums(calls);
  std::vector<int64_t> rows(result.size());
  each_slot(calls, [&](int64_t call, int at) {
    Lane& lane = forward_lane(at, weights);
    fill(lane, batch, call * size);
    const std::function<void(int64_t)> after = [&](int64_t index) {
      const graph::Node& node = g.nodes()[index];
      if (std::strcmp(node.op->name(), "split heads, qk norm") != 0) return;
      // The operands are still in place: nothing ran since that could have taken their memory.
      const graph::Value& qkv = g[node.inputs[0]];
      const int64_t tokens = qkv.shape[0] / size, n = tokens * std::min(size, count - call * size);
      const void* data = lane.executor.data(node.inputs[0]);
      sums[call].push_back(qkv.dtype == DType::BF16 ? sum_squares(static_cast<const bf16*>(data), n, width)
                                                    : sum_squares(static_cast<const float*>(data), n, width));
      if (call == 0) rows[sums[0].size() - 1] = tokens * count;
    };
    lane.executor.run(nullptr, &after);
  });
  for (size_t i = 0; i < result.size(); ++i) {
    for (const auto& call : sums) {
      result[i].query += call.at(i).first;
      result[i].key += call.at(i).second;
    }
    const double n = static_cast<double>(rows[i] * width);
    result[i].query = std::sqrt(result[i].query / n);
    result[i].key = std::sqrt(result[i].key / n);
  }
  return result;
}

CaseResult Engine::evaluate_case(const RawBatch& batch, const std::vector<float>& target, bool gradients) {
  check(batch);
  const int64_t samples = spec_.shape.samples;
  if (batch.count() != samples || target.size() != batch.z.size())
    throw Error("ERR_TENSOR_SHAPE", "A case must have exactly " + std::to_string(samples) +
                                        " samples and a target of the latent's shape");
  auto built = build_mmdit(spec_.model, table_, spec_.shape,
                           {spec_.compute, spec_.residual, gradients, gradients, spec_.recompute});
  Lane lane(*built, spec_, cropped_.as<float>(), spec_.threads_per_slot);
  Buffer gradient(gradients ? static_cast<size_t>(table_.length) * sizeof(float) : 0);
  bind(lane, State::Master, gradient.as<float>());
  fill(lane, batch, 0);
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
