// Arguments and results of an engine, converted between JavaScript and C++ objects; src/native/contract.ts
// describes both.
#pragma once
#include <napi.h>

#include "../engine/engine.h"
#include "../engine/query_key_rms.h"

namespace orch::addon {

/// A state of the engine's optimizer by its name, which the engine need not have.
State state_of(Napi::Env env, const Engine& e, const std::string& name);
/// The weights that a forward pass uses: master or ema.
State weights_of(const Napi::Value& name);
ModelSpec model_of(const Napi::Object& o);
EngineSpec spec_of(const Napi::Object& o);
SampleBatch samples_of(const Napi::Object& o);
RawBatch raw_of(const Napi::Object& o);

/// ModelLayout
Napi::Object to_value(Napi::Env env, const ModelSpec& model, const ParameterTable& table);
/// EngineLayout
Napi::Value to_value(Napi::Env env, const Engine& e);
Napi::Value to_value(Napi::Env env, const AccumulateResult& r, int64_t first_slot,
                     const std::vector<std::string>& attentions);

}  // namespace orch::addon

// In the namespace of their arguments, where the templates of convert.h find them.
namespace orch {
Napi::Value to_value(Napi::Env env, const Parameter& p);
Napi::Value to_value(Napi::Env env, const Bucket& b);
Napi::Value to_value(Napi::Env env, const CaseResult& r);
Napi::Value to_value(Napi::Env env, const ProfileRow& r);
Napi::Value to_value(Napi::Env env, const QueryKeyRms& r);
Napi::Value to_value(Napi::Env env, const Engine::Norm& n);
}  // namespace orch
