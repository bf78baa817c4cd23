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
  wrong(env, "the state's name", names.c_str());
}

State weights_of(Napi::Env env, const std::string& name) {
  if (name == "master") return State::Master;
  if (name == "ema") return State::Ema;
  wrong(env, "the weights", "master or ema");
}

EngineSpec spec_of(const Napi::Object& o) {
  auto m = object(o.Get("model"), "model");
  EngineSpec s{};
  s.model = {integer(m, "depth"),           integer(m, "heads"),          integer(m, "patch"),
             integer(m, "latentChannels"),  integer(m, "contextDim"),     integer(m, "pooledDim"),
             integer(m, "posEmbedMaxSize"), string(m, "qkNorm") == "rms", {}};
  auto dual = array(m, "dualAttention");
  for (uint32_t i = 0; i < dual.Length(); ++i)
    s.model.dual_attention.push_back(integer(dual.Get(i), "dualAttention"));
  s.shape = {integer(o, "microBatch"), integer(o, "latentHeight"), integer(o, "latentWidth"),
             integer(o, "contextTokens")};
  s.compute = string(o, "precision") == "bf16" ? DType::BF16 : DType::F32;
  const std::string recompute = string(o, "recompute");
  s.recompute = recompute == "norms"   ? Recompute::Norms
                : recompute == "mlp"   ? Recompute::Mlp
                : recompute == "block" ? Recompute::Block
                                       : Recompute::Nothing;
  s.residual = string(o, "residual") == "bf16" ? s.compute : DType::F32;
  s.threads = static_cast<int>(integer(o, "threads", 1, 1024));
  s.threads_per_slot = static_cast<int>(integer(o, "threadsPerSlot", 1, 1024));
  s.training = boolean(o, "training");
  s.ema = boolean(o, "ema");
  if (o.Has("optimizer")) s.optimizer = string(o, "optimizer");
  if (!o.Get("device").IsNull()) s.device = static_cast<int>(integer(o, "device", 0, 1024));
  const auto& b = s.shape;
  if (b.samples < 1 || b.height < 1 || b.width < 1 || b.context_tokens < 1 || b.samples > 1 << 20 ||
      b.height > 1 << 14 || b.width > 1 << 14 || b.context_tokens > 1 << 20 || s.threads < 1 ||
      s.threads > 1024 || s.threads_per_slot < 1 || s.threads_per_slot > s.threads ||
      s.device.value_or(0) < 0)
    throw Error("ERR_MODEL_SPEC",
                "The batch shape, the number of threads or the device ordinal is out of range");
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

Napi::Value to_value(Napi::Env env, const Engine& e) {
  const auto& table = e.table();
  auto o = Napi::Object::New(env);
  auto tensors = Napi::Array::New(env, table.parameters.size());
  for (size_t i = 0; i < table.parameters.size(); ++i) {
    const auto& p = table.parameters[i];
    auto t = Napi::Object::New(env);
    t.Set("name", p.name);
    t.Set("shape", to_array(env, p.shape));
    t.Set("offset", static_cast<double>(p.offset));
    t.Set("length", static_cast<double>(p.length));
    tensors[i] = t;
  }
  auto buckets = Napi::Array::New(env, table.buckets.size());
  for (size_t i = 0; i < table.buckets.size(); ++i) {
    auto b = Napi::Object::New(env);
    b.Set("offset", static_cast<double>(table.buckets[i].offset));
    b.Set("length", static_cast<double>(table.buckets[i].length));
    buckets[i] = b;
  }
  const auto& names = e.optimizer().moments;
  auto moments = Napi::Array::New(env, names.size());
  for (size_t i = 0; i < names.size(); ++i) moments[i] = Napi::String::New(env, names[i]);
  const int64_t side = e.spec().model.pos_embed_max_size;
  auto position = Napi::Object::New(env);
  position.Set("shape", to_array(env, {1, side * side, e.spec().model.hidden()}));
  o.Set("length", static_cast<double>(table.length));
  o.Set("tensors", tensors);
  o.Set("buckets", buckets);
  o.Set("moments", moments);
  o.Set("posEmbed", position);
  o.Set("parameters", static_cast<double>(table.count));
  o.Set("arenaBytes", static_cast<double>(e.arena_bytes()));
  o.Set("flopsPerSlot", e.flops_per_slot());
  return o;
}

Napi::Value to_value(Napi::Env env, const AccumulateResult& r, int64_t first_slot,
                     const std::vector<std::string>& attentions) {
  auto o = Napi::Object::New(env);
  auto slots = Napi::Array::New(env, r.losses.size());
  for (size_t i = 0; i < r.losses.size(); ++i) {
    auto s = Napi::Object::New(env);
    s.Set("slot", static_cast<double>(first_slot + static_cast<int64_t>(i)));
    s.Set("losses", to_typed_array(env, r.losses[i]));
    slots[i] = s;
  }
  o.Set("slots", slots);
  o.Set("statistics", env.Null());
  if (!r.attention.empty()) {
    auto statistics = Napi::Object::New(env);
    auto list = Napi::Array::New(env, attentions.size());
    auto logits = Napi::Float64Array::New(env, attentions.size()),
         entropy = Napi::Float64Array::New(env, attentions.size());
    for (size_t i = 0; i < attentions.size(); ++i) {
      list[i] = Napi::String::New(env, attentions[i]);
      logits[i] = r.attention[i].max_abs_logit;
      entropy[i] = r.attention[i].mean_entropy;
    }
    statistics.Set("names", list);
    statistics.Set("maxAbsLogit", logits);
    statistics.Set("meanEntropy", entropy);
    o.Set("statistics", statistics);
  }
  o.Set("gatherSeconds", r.gather_seconds);
  o.Set("computeSeconds", r.compute_seconds);
  return o;
}

Napi::Value to_value(Napi::Env env, const CaseResult& r) {
  auto o = Napi::Object::New(env);
  auto map = env.Global().Get("Map").As<Napi::Function>().New({});
  auto set = map.Get("set").As<Napi::Function>();
  for (const auto& [name, g] : r.gradients)
    set.Call(map, {Napi::String::New(env, name), to_typed_array(env, g)});
  o.Set("velocity", to_typed_array(env, r.velocity));
  o.Set("loss", r.loss);
  o.Set("gradients", map);
  return o;
}

Napi::Value to_value(Napi::Env env, const std::vector<ProfileRow>& rows) {
  auto list = Napi::Array::New(env, rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    auto o = Napi::Object::New(env);
    o.Set("name", rows[i].name);
    o.Set("count", rows[i].count);
    o.Set("seconds", rows[i].seconds);
    o.Set("flops", rows[i].flops);
    o.Set("bytes", rows[i].bytes);
    list[i] = o;
  }
  return list;
}

}  // namespace orch::addon
