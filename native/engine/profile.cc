// Profile of a step, operation by operation, and what a plan needs before anything is allocated.
#include <map>

#include "lane.h"

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
    auto [it, fresh] = known.try_emplace(node.op->name, rows.size());
    if (fresh) rows.push_back({node.op->name, 0, 0, 0, 0});
    ProfileRow& row = rows[it->second];
    row.count += 1;
    row.flops += node.op->flops;
    row.bytes += bytes_of(g, node);
    row_of.push_back(it->second);
  }
  return rows;
}

std::optional<std::string> Engine::attention_by() {
  if (device_.is_cpu()) return std::nullopt;
  if (spec_.compute != DType::BF16) return "own kernels (fp32)";
  const auto& g = graph_->graph;
  const auto all = [&](bool backward) {
    std::string text;
    for (int i = 0; i < g.attentions(); ++i) {
      const std::string by = device_.attention_by(g.attention(i), backward);
      if (text.find(by) == std::string::npos) text += (text.empty() ? "" : " and ") + by;
    }
    return text;
  };
  const std::string forward = all(false), backward = spec_.training ? all(true) : forward;
  return forward == backward ? forward : forward + ", backward by " + backward;
}

std::vector<ProfileRow> Engine::profile(int repeats) {
  const auto& g = graph_->graph;
  Lane& lane = this->lane(training_lanes_, *graph_, 0);
  fill_random(lane);
  const Buffer gradient = device_.allocate(spec_.training ? flat_bytes() : 0);
  lane.executor.bind_flat(flat(State::Master), weights16_.as<bf16>(), gradient.as<float>());
  std::vector<size_t> row_of;
  std::vector<ProfileRow> rows = profile_rows(g, row_of);
  lane.executor.run();  // touches every page
  device_.synchronize();
  for (int i = 0; i < repeats; ++i)
    for (size_t n = 0; n < g.nodes().size(); ++n)
      rows[row_of[n]].seconds += device_.time([&] { lane.executor.run_node(n); }) / repeats;
  return rows;
}

void Engine::random_weights() {
  before_writing();
  const int64_t n = table_.length;
  kernels().raw.normal(flat(State::Master), {1, 0, 0, 5}, n);
  kernels().raw.scale_into(flat(State::Master), 0.02f, n);
  if (weights16_) to_bf16(weights16_.as<bf16>(), flat(State::Master));
  mark_copies_stale();
  device_.fill(cropped_.data(), 0, cropped_.bytes());
  device_.synchronize();
}

void Engine::run_random_slots(int64_t slots, int64_t micro_batches, bool statistics) {
  Lane& lane = this->lane(training_lanes_, *graph_, 0);
  fill_random(lane);
  parts_.clear();
  norm_enqueued_ = false;
  sums_->begin(0, slots, slots, [](int) {});
  for (int64_t slot = 0; slot < slots; ++slot) {
    float* const gradient = sums_->acquire();
    for (int64_t at = 0; at < micro_batches; ++at)
      lane.run(flat(State::Master), weights16_.as<bf16>(), gradient, statistics, nullptr, at > 0);
    for (int b = 0; b < sums_->buckets(); ++b) sums_->complete(slot, gradient, b);
  }
}

PlanFigures plan_figures(const EngineSpec& spec) {
  const ParameterTable table(spec.model);
  PlanFigures f{table.count, table.length, moments_of(spec), 0, {}, {}, {}};
  for (Recompute level : {Recompute::Nothing, Recompute::Norms, Recompute::Mlp, Recompute::Block}) {
    auto built = build_model(spec.model, table, spec.shape,
                             {spec.compute, spec.residual, spec.training, false, level, spec.float8});
    f.flops = (spec.training ? 3 : 1) * built->forward_flops;
    f.arena_bytes.push_back(built->graph.arena_bytes() + built->graph.scratch_bytes());
    double flops = 0, bytes = 0;
    for (const graph::Node& n : built->graph.nodes()) {
      flops += n.op->flops;
      if (n.op->flops == 0) bytes += bytes_of(built->graph, n);
    }
    f.executed_flops.push_back(flops);
    f.memory_bound_bytes.push_back(bytes);
  }
  return f;
}

std::vector<ProfileRow> plan_operations(const EngineSpec& spec) {
  const ParameterTable table(spec.model);
  const auto built =
      build_model(spec.model, table, spec.shape,
                  {spec.compute, spec.residual, spec.training, false, spec.recompute, spec.float8});
  std::vector<size_t> row_of;
  return profile_rows(built->graph, row_of);
}

}  // namespace orch
