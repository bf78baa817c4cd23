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
  auto o = Napi::Object::New(info.Env());
  o.Set("parameters", static_cast<double>(f.parameters));
  o.Set("length", static_cast<double>(f.length));
  o.Set("flopsPerSlot", f.flops_per_slot);
  o.Set("arenaBytes", to_array(info.Env(), {f.arena_bytes.begin(), f.arena_bytes.end()}));
  o.Set("executedFlops", to_array(info.Env(), {f.executed_flops.begin(), f.executed_flops.end()}));
  o.Set("memoryBoundBytes", to_array(info.Env(), {f.memory_bound_bytes.begin(), f.memory_bound_bytes.end()}));
  return o;
}

Napi::Value plan_operations(const Napi::CallbackInfo& info) {
  return to_value(info.Env(), orch::plan_operations(spec_of(object(info[0], "the engine's options"))));
}

}  // namespace orch::addon
