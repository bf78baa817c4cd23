// Plans as JavaScript objects: what an engine would need and do.
#include "../engine/engine.h"
#include "convert.h"
#include "engine_values.h"
#include "objects.h"

namespace orch::addon {

Napi::Value model_parameters(const Napi::CallbackInfo& info) {
  const ModelSpec model = model_of(object(info[0], "the model"));
  return to_value(info.Env(), model, ParameterTable(model));
}

Napi::Value plan_figures(const Napi::CallbackInfo& info) {
  const PlanFigures f = orch::plan_figures(spec_of(object(info[0], "the engine's options")));
  const std::vector<int64_t> arenas(f.arena_bytes.begin(), f.arena_bytes.end());
  const auto list = [&](const std::vector<double>& v) {
    return to_value(info.Env(), std::vector<int64_t>(v.begin(), v.end()));
  };
  return record(info.Env(), {{"parameters", f.parameters},
                             {"length", f.length},
                             {"moments", f.moments},
                             {"flopsPerSlot", f.flops_per_slot},
                             {"arenaBytes", arenas},
                             {"executedFlops", list(f.executed_flops)},
                             {"memoryBoundBytes", list(f.memory_bound_bytes)}});
}

Napi::Value plan_operations(const Napi::CallbackInfo& info) {
  return to_value(info.Env(), orch::plan_operations(spec_of(object(info[0], "the engine's options"))));
}

}  // namespace orch::addon
