// Profile of a step, operation by operation, and what a plan needs before anything is allocated.
#include <cmath>
#include <map>

#include "../core/clock.h"
#include "../kernels/kernels.h"
#include "host_lane.h"

namespace orch {
namespace {

/// Bytes of a node's operands: the least that it reads and writes.
double bytes_of(const graph::Graph& g, const graph::Node& n) {
  double sum = 0;
  for (const auto* list : {&n.inputs, &n.outputs})
    for (graph::Ref r : *list)
      if (r)
        sum += static_cast<double>(graph::elements(g[r].shape)) * static_cast<double>(size_of(g[r].dtype));
  return sum;
}

}  // namespace

std::vector<ProfileRow> profile_rows(const graph::Graph& g, std::vector<size_t>& row_of) {
  std::vector<ProfileRow> rows;
  std::map<std::string, size_t> known;
  for (const graph::Node& node : g.nodes()) {
    auto [it, fresh] = known.try_emplace(node.op->name(), rows.size());
    if (fresh) rows.push_back({node.op->name(), 0, 0, 0, 0});
    ProfileRow& row = rows[it->second];
    row.count += 1;
    row.flops += node.op->flops();
    row.bytes += bytes_of(g, node);
    row_of.push_back(it->second);
  }
  return rows;
}

std::vector<ProfileRow> HostEngine::profile(int repeats) {
  const auto& g = graph_->graph;
  Lane lane(*graph_, spec_, cropped_.as<float>(), 1);
  Buffer gradient(spec_.training ? static_cast<size_t>(table_.length) * sizeof(float) : 0);
  bind(lane, State::Master, gradient.as<float>());
  // Inputs of a realistic magnitude: times do not depend on the values, but denormals and NaN would be slow.
  const int64_t n = spec_.shape.samples;
  const kernels::DrawKey key{1, 0, 0, 0};
  kernels::cpu().raw.normal(lane.z.as<float>(), key, n * latent_elements());
  kernels::cpu().raw.normal(lane.target.as<float>(), key, n * latent_elements());
  for (int64_t i = 0; i < n; ++i) {
    lane.timestep.as<float>()[i] = 1000.0f * static_cast<float>(i + 1) / static_cast<float>(n);
    lane.grad_scale.as<float>()[i] = 1.0f / static_cast<float>(n);
  }

  std::vector<size_t> row_of;
  std::vector<ProfileRow> rows = profile_rows(g, row_of);
  lane.executor.run(nullptr, nullptr);  // touches every page
  double last = 0;
  const std::function<void(int64_t)> after = [&](int64_t node) {
    rows[row_of[node]].seconds += thread_seconds() - last;
    last = thread_seconds();
  };
  for (int i = 0; i < repeats; ++i) {
    last = thread_seconds();
    lane.executor.run(nullptr, &after);
  }
  for (ProfileRow& row : rows) row.seconds /= repeats;
  return rows;
}

PlanFigures plan_figures(const EngineSpec& spec) {
  const ParameterTable table(spec.model);
  PlanFigures f{table.count, table.length, 0, {}, {}, {}};
  for (Recompute level : {Recompute::Nothing, Recompute::Norms, Recompute::Mlp, Recompute::Block}) {
    auto built = build_model(spec.model, table, spec.shape,
                             {spec.compute, spec.residual, spec.training, false, level});
    f.flops_per_slot = (spec.training ? 3 : 1) * built->forward_flops;
    f.arena_bytes.push_back(built->graph.arena_bytes() + built->graph.scratch_bytes());
    double flops = 0, bytes = 0;
    for (const graph::Node& n : built->graph.nodes()) {
      flops += n.op->flops();
      if (n.op->flops() == 0) bytes += bytes_of(built->graph, n);
    }
    f.executed_flops.push_back(flops);
    f.memory_bound_bytes.push_back(bytes);
  }
  return f;
}

std::vector<ProfileRow> plan_operations(const EngineSpec& spec) {
  const ParameterTable table(spec.model);
  const auto built = build_model(spec.model, table, spec.shape,
                                 {spec.compute, spec.residual, spec.training, false, spec.recompute});
  std::vector<size_t> row_of;
  return profile_rows(built->graph, row_of);
}

}  // namespace orch
