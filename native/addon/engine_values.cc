#include "engine_values.h"

#include "convert.h"

namespace orch::addon {

State state_of(Napi::Env env, const Engine& e, const std::string& name) {
  std::string names;
  const size_t count = static_cast<size_t>(State::Moments) + e.optimizer().moments.size();
  for (size_t i = 0; i < count; ++i) {
    const std::string known = e.name_of(static_cast<State>(i));
    if (known == name) return static_cast<State>(i);
    names += (i > 0 ? ", " : "one of ") + known;
  }
  wrong(env, "the state's name", names);
}

State weights_of(const Napi::Value& name) {
  return one_of<State>(name, "the weights", {{"master", State::Master}, {"ema", State::Ema}});
}

ModelSpec model_of(const Napi::Object& o) {
  const bool qk_norm = one_of<bool>(o.Get("qkNorm"), "qkNorm", {{"none", false}, {"rms", true}});
  ModelSpec m{integer(o, "depth"),
              integer(o, "heads"),
              integer(o, "patch"),
              integer(o, "latentChannels"),
              integer(o, "contextDim"),
              integer(o, "pooledDim"),
              integer(o, "posEmbedMaxSize"),
              qk_norm,
              {},
              string(o, "backbone")};
  auto dual = array(o, "dualAttention");
  for (uint32_t i = 0; i < dual.Length(); ++i)
    m.dual_attention.push_back(integer(dual.Get(i), "dualAttention"));
  return m;
}

EngineSpec spec_of(const Napi::Object& o) {
  EngineSpec s{};
  s.model = model_of(object(o.Get("model"), "model"));
  s.shape = {integer(o, "microBatch"), integer(o, "latentHeight"), integer(o, "latentWidth"),
             integer(o, "contextTokens")};
  s.compute = precision(o.Get("precision"), "precision");
  s.recompute = one_of<Recompute>(o.Get("recompute"), "recompute",
                                  {{"nothing", Recompute::Nothing},
                                   {"norms", Recompute::Norms},
                                   {"mlp", Recompute::Mlp},
                                   {"block", Recompute::Block}});
  s.residual = precision(o.Get("residual"), "residual") == DType::BF16 ? s.compute : DType::F32;
  s.float8 = one_of<bool>(o.Get("linear"), "linear", {{"compute", false}, {"fp8", true}});
  s.threads = static_cast<int>(integer(o, "threads", 1, kMostThreads));
  s.threads_per_slot = static_cast<int>(integer(o, "threadsPerSlot", 1, kMostThreads));
  s.training = boolean(o, "training");
  s.ema = boolean(o, "ema");
  s.optimizer = string(o, "optimizer");
  if (!o.Get("device").IsNull()) s.device = static_cast<int>(integer(o, "device", 0, 1024));
  const auto& b = s.shape;
  if (b.samples < 1 || b.height < 1 || b.width < 1 || b.context_tokens < 1 || b.samples > 1 << 20 ||
      b.height > 1 << 14 || b.width > 1 << 14 || b.context_tokens > 1 << 20 || s.threads_per_slot > s.threads)
    throw Error("ERR_MODEL_SPEC", "The batch shape or the number of threads is out of range");
  return s;
}

SampleBatch samples_of(const Napi::Object& o) {
  return {copy_integers<int64_t>(o, "rows"), copy<uint8_t>(o, "synthetic"), copy<uint8_t>(o, "dropped"),
          copy<float>(o, "coefficients"), copy_integers<uint64_t>(o, "sampleIds")};
}
RawBatch raw_of(const Napi::Object& o) {
  return {copy<float>(o, "z"), copy<float>(o, "timestep"), copy<float>(o, "context"),
          copy<float>(o, "pooled")};
}

Napi::Object to_value(Napi::Env env, const ModelSpec& model, const ParameterTable& table) {
  const int64_t side = model.pos_embed_max_size;
  const std::vector<int64_t> positions{1, side * side, model.hidden()};
  return record(env, {{"length", table.length},
                      {"tensors", table.parameters},
                      {"buckets", table.buckets},
                      {"posEmbed", record(env, {{"shape", positions}})},
                      {"parameters", table.count}})
      .As<Napi::Object>();
}

Napi::Value to_value(Napi::Env env, const Engine& e) {
  auto layout = to_value(env, e.spec().model, e.table());
  layout.Set("moments", to_value(env, moments_of(e.spec())));
  layout.Set("arenaBytes", static_cast<double>(e.arena_bytes()));
  layout.Set("flops", e.flops());
  return layout;
}

Napi::Value to_value(Napi::Env env, const AccumulateResult& r, int64_t first_slot,
                     const std::vector<std::string>& attentions) {
  std::vector<Napi::Value> slots;
  for (const auto& losses : r.losses)
    slots.push_back(
        record(env, {{"slot", first_slot + static_cast<int64_t>(slots.size())}, {"losses", losses}}));
  Napi::Value statistics = env.Null();
  if (!r.attention.empty()) {
    std::vector<std::string> names, streams;
    std::vector<double> logits, entropy, rows;
    for (const AttentionSummary& a : r.attention) {
      names.push_back(attentions[a.attention]);
      streams.push_back(a.stream == 0 ? "text" : "image");
      logits.push_back(a.max_abs_logit);
      entropy.push_back(a.mean_entropy);
      rows.push_back(static_cast<double>(a.rows));
    }
    statistics = record(env, {{"names", names},
                              {"streams", streams},
                              {"maxAbsLogit", logits},
                              {"meanEntropy", entropy},
                              {"rows", rows}});
  }
  auto numbers = Napi::Object::New(env);
  for (const auto& [name, value] : r.numbers) numbers.Set(name, value);
  return record(env, {{"slots", slots}, {"statistics", statistics}, {"numbers", numbers}});
}

}  // namespace orch::addon

namespace orch {

using addon::record, addon::to_value;

Napi::Value to_value(Napi::Env env, const Parameter& p) {
  return record(env, {{"name", p.name}, {"shape", p.shape}, {"offset", p.offset}, {"length", p.length}});
}
Napi::Value to_value(Napi::Env env, const Bucket& b) {
  return record(env, {{"offset", b.offset}, {"length", b.length}});
}
Napi::Value to_value(Napi::Env env, const CaseResult& r) {
  auto map = env.Global().Get("Map").As<Napi::Function>().New({});
  auto set = map.Get("set").As<Napi::Function>();
  for (const auto& [name, g] : r.gradients) set.Call(map, {to_value(env, name), to_value(env, g)});
  return record(env, {{"velocity", r.velocity}, {"loss", r.loss}, {"gradients", Napi::Value(map)}});
}

Napi::Value to_value(Napi::Env env, const ProfileRow& r) {
  return record(
      env,
      {{"name", r.name}, {"count", r.count}, {"seconds", r.seconds}, {"flops", r.flops}, {"bytes", r.bytes}});
}
Napi::Value to_value(Napi::Env env, const QueryKeyRms& r) {
  return record(env, {{"attention", r.attention}, {"query", r.query}, {"key", r.key}});
}
Napi::Value to_value(Napi::Env env, const Engine::Norm& n) {
  return record(env,
                {{"norm", n.norm}, {"firstNonFinite", n.first_non_finite}, {"receivedBytes", n.received}});
}

}  // namespace orch
