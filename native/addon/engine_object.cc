// An engine as a JavaScript object.
#include "../engine/query_key_rms.h"
#include "engine_box.h"
#include "engine_values.h"
#include "objects.h"

namespace orch::addon {
namespace {

// Arguments are converted before the engine is taken: converting may run JavaScript, which may close it.

/// Ranges from their bounds: from, to, from, to, ...
Ranges ranges_of(Napi::Env env, const std::vector<int64_t>& bounds) {
  if (bounds.size() % 2 != 0) wrong(env, "bounds", "pairs");
  Ranges ranges;
  for (size_t i = 0; i < bounds.size(); i += 2) ranges.emplace_back(bounds[i], bounds[i + 1]);
  return ranges;
}

Napi::Value state(const EngineHandle& h, const Napi::CallbackInfo& info) {
  const std::string name = info[0].ToString();
  const State s = state_of(info.Env(), engine_of(h), name);
  const size_t parameter = parameter_of(info.Env(), h, info[1]);
  if (!engine_of(h).has(s)) throw Error("ERR_NO_EMA", "This engine holds no state named " + name);
  look(h);
  return run(
      info, h, [=](Engine& e) { return e.state(s, parameter); },
      [h, parameter](Napi::Env env, float* data) {
        engine_of(h);
        return view(env, h, data, parameter);
      });
}

Napi::Value attach(const EngineHandle& h, const Napi::CallbackInfo& info) {
  auto dataset = dataset_of(info[0]);
  auto t = object(info[1], "the text's shape");
  const TextSpec text{integer(t, "clipTokens"),    integer(t, "t5Tokens"), integer(t, "clipLDim"),
                      integer(t, "clipGDim"),      integer(t, "t5Dim"),    integer(t, "clipLPooledDim"),
                      integer(t, "clipGPooledDim")};
  return run(info, h, [=](Engine& e) { e.attach(dataset, text); });
}

Napi::Value accumulate(const EngineHandle& h, const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto o = object(info[0], "the options");
  auto request = std::make_shared<AccumulateRequest>();
  auto slots = array(o, "slots");
  for (uint32_t i = 0; i < slots.Length(); ++i) {
    auto s = object(slots.Get(i), "slots");
    request->slots.push_back({integer(s, "slot"), samples_of(s)});
  }
  request->total_slots = integer(o, "totalSlots");
  request->grad_scale = static_cast<float>(number(o, "gradScale"));
  request->seed = bigint(o.Get("seed"), "seed");
  request->step = static_cast<uint32_t>(integer(o, "step", 0, UINT32_MAX));
  request->statistics = boolean(o, "statistics");
  if (const Napi::Value next = o.Get("next"); !next.IsNull())
    request->next = samples_of(object(next, "next"));
  // Calls to the event loop cost time on both sides; without a listener there are none.
  const Napi::Value listener = o.Get("onBucket");
  if (!listener.IsNull() && !listener.IsFunction()) wrong(env, "onBucket", "a function, or null");
  // From here on no JavaScript runs: a function on the event loop is made for an engine that will let it go.
  const std::vector<std::string> attentions = engine_of(h).training_graph().attentions;
  std::optional<Napi::ThreadSafeFunction> bucket;
  if (listener.IsFunction())
    bucket = Napi::ThreadSafeFunction::New(env, listener.As<Napi::Function>(), "onBucket", 0, 1);
  const int64_t first = request->slots.empty() ? 0 : request->slots[0].slot;
  return run(
      info, h,
      [request, bucket](Engine& e) mutable {
        if (!bucket) return e.accumulate(*request, [](int) {});
        struct Release {
          Napi::ThreadSafeFunction& f;
          ~Release() { f.Release(); }
        } release{*bucket};
        return e.accumulate(*request, [&bucket](int index) {
          bucket->NonBlockingCall(
              [index](Napi::Env env, Napi::Function f) { f.Call({Napi::Number::New(env, index)}); });
        });
      },
      [first, attentions](Napi::Env env, AccumulateResult& r) {
        return to_value(env, r, first, attentions);
      });
}

Napi::Array bucket_views(Napi::Env env, const EngineHandle& h, float* gradient) {
  const auto& buckets = h->engine->table().buckets;
  auto list = Napi::Array::New(env, buckets.size());
  for (size_t i = 0; i < buckets.size(); ++i)
    list[i] = view(env, h, gradient + buckets[i].offset, buckets[i].length);
  return list;
}

Napi::Value gradient_parts(const EngineHandle& h, const Napi::CallbackInfo& info) {
  const auto parts = engine_of(h).parts();
  look(h);
  Napi::Env env = info.Env();
  auto list = Napi::Array::New(env, parts.size());
  for (size_t i = 0; i < parts.size(); ++i) {
    if (!parts[i].data)
      throw Error("ERR_INTERNAL", "gradientParts: no bucket has been announced yet, or none needs to be");
    list[i] = record(env, {{"lo", parts[i].lo},
                           {"hi", parts[i].hi},
                           {"buckets", Napi::Value(bucket_views(env, h, parts[i].data))}});
  }
  return list;
}

Napi::Value update(const EngineHandle& h, const Napi::CallbackInfo& info) {
  auto o = object(info[0], "the options");
  const UpdateRequest u{integer(o, "step", 1, INT64_MAX),
                        number(o, "lr"),
                        number(o, "beta1"),
                        number(o, "beta2"),
                        number(o, "eps"),
                        number(o, "weightDecay"),
                        number(o, "gradScale"),
                        number(o, "emaDecay")};
  return run(info, h, [u](Engine& e) { e.update(u); });
}

Napi::Value prepare_snapshot(const EngineHandle& h, const Napi::CallbackInfo& info) {
  engine_of(h).prepare_snapshot();
  return info.Env().Undefined();
}

Napi::Value snapshot(const EngineHandle& h, const Napi::CallbackInfo& info) {
  Engine* e = &engine_of(h);
  auto failure = std::make_shared<std::exception_ptr>();
  return promise(
      info.Env(),
      [e, failure](Job job) {
        e->pool().post([e, failure, job = std::move(job)] {
          e->snapshot([failure, job](std::exception_ptr why) {
            *failure = why;
            job();
          });
        });
      },
      h,
      [failure] {
        if (*failure) std::rethrow_exception(*failure);
      },
      [h](Napi::Env env, Nothing&) {
        Engine& e = engine_of(h);
        auto map = env.Global().Get("Map").As<Napi::Function>().New({});
        auto set = map.Get("set").As<Napi::Function>();
        for (State s : e.states()) {
          const std::string name = e.name_of(s);
          auto tensor = function(env, name.c_str(), [h, s](const Napi::CallbackInfo& info) -> Napi::Value {
            const size_t parameter = parameter_of(info.Env(), h, info[0]);
            return view(info.Env(), h, engine_of(h).snapshot_of(s, parameter), parameter);
          });
          set.Call(map, {Napi::String::New(env, name), tensor});
        }
        const std::string& pageable = e.snapshot_pageable();
        return record(env, {{"state", map},
                            {"stallSeconds", e.snapshot_stall()},
                            {"pageable", pageable.empty() ? env.Null() : to_value(env, pageable)}});
      });
}

Napi::Value evaluate(const EngineHandle& h, const Napi::CallbackInfo& info) {
  auto batch = std::make_shared<SampleBatch>(samples_of(object(info[0], "the batch")));
  auto o = object(info[1], "the options");
  const State weights = weights_of(o.Get("weights"));
  const uint64_t seed = bigint(o.Get("seed"), "seed");
  const uint32_t step = static_cast<uint32_t>(integer(o, "step", 0, UINT32_MAX));
  return run(info, h, [=](Engine& e) { return e.evaluate(*batch, weights, seed, step); });
}

Napi::Value predict(const EngineHandle& h, const Napi::CallbackInfo& info) {
  auto batch = std::make_shared<RawBatch>(raw_of(object(info[0], "the batch")));
  const State weights = weights_of(info[1]);
  return run(info, h, [=](Engine& e) { return e.predict(*batch, weights); });
}

Napi::Value query_key_rms(const EngineHandle& h, const Napi::CallbackInfo& info) {
  auto batch = std::make_shared<RawBatch>(raw_of(object(info[0], "the batch")));
  const State weights = weights_of(info[1]);
  return run(info, h, [=](Engine& e) { return orch::query_key_rms(e, *batch, weights); });
}

Napi::Value gradient_norms(const EngineHandle& h, const Napi::CallbackInfo& info) {
  const auto ranges =
      ranges_of(info.Env(), integers<int64_t>(typed_array<double>(info[0], "bounds"), "bounds"));
  return run(info, h, [ranges](Engine& e) { return e.gradient_norms(ranges); });
}

Napi::Value ema_distance(const EngineHandle& h, const Napi::CallbackInfo& info) {
  return run(info, h, [](Engine& e) { return e.ema_distance(); });
}

Napi::Value freeze(const EngineHandle& h, const Napi::CallbackInfo& info) {
  const auto ranges = ranges_of(info.Env(), copy_integers<int64_t>(object(info[0], "the options"), "bounds"));
  return run(info, h, [ranges](Engine& e) { e.freeze(ranges); });
}

Napi::Value evaluate_case(const EngineHandle& h, const Napi::CallbackInfo& info) {
  auto batch = std::make_shared<RawBatch>(raw_of(object(info[0], "the case")));
  auto values = typed_array<float>(info[1], "target");
  auto target = std::make_shared<std::vector<float>>(values.Data(), values.Data() + values.ElementLength());
  const bool gradients = info[2].ToBoolean();
  return run(info, h, [=](Engine& e) { return e.evaluate_case(*batch, *target, gradients); });
}

Napi::Value join(const EngineHandle& h, const Napi::CallbackInfo& info) {
  auto group = group_of(info[0]);
  engine_of(h);
  // The first join() frees the memory that the views refer to.
  if (h->joining || (h->viewed && !h->joined))
    throw Error("ERR_INTERNAL", "join: the state was viewed before");
  h->joining = !h->joined;
  return run(
      info, h,
      [group, generation = group->formed(), h](Engine& e) {
        // Also where the group broke, and the next generation of it is joined.
        const auto ended = [&] {
          h->joined = e.has_joined();
          h->joining = false;
        };
        try {
          const Engine::Joined joined = e.join(group, generation);
          ended();
          return joined;
        } catch (...) {
          ended();
          throw;
        }
      },
      [](Napi::Env env, const Engine::Joined& joined) {
        const bool none = joined.step == SharedState::kNoStep;
        return record(
            env, {{"step", none ? env.Null() : to_value(env, joined.step)}, {"completed", joined.completed}});
      });
}

Napi::Value rendezvous(const EngineHandle& h, const Napi::CallbackInfo& info) {
  const int rank = static_cast<int>(integer(info[0], "rank", 0, 1 << 20));
  const auto bounds = integers<int64_t>(typed_array<double>(info[1], "bounds"), "bounds");
  std::vector<SlotRange> slots;
  for (size_t i = 0; i + 1 < bounds.size(); i += 2) slots.push_back({bounds[i], bounds[i + 1]});
  return run(info, h, [=](Engine& e) { return e.rendezvous(rank, slots); });
}

Napi::Value profile(const EngineHandle& h, const Napi::CallbackInfo& info) {
  const int repeats = static_cast<int>(integer(info[0], "repeats", 1, 1 << 20));
  return run(info, h, [repeats](Engine& e) { return e.profile(repeats); });
}

Napi::Value memory(const EngineHandle& h, const Napi::CallbackInfo& info) {
  const MemoryUse use = memory_use();
  return record(info.Env(),
                {{"current", use.current}, {"peak", use.peak}, {"device", engine_of(h).device_bytes()}});
}

/// Frees all of the engine's memory when the requested work is done. Views become empty immediately; a buffer
/// that was transferred out of its view keeps the memory until it is collected.
Napi::Value close(const EngineHandle& h, const Napi::CallbackInfo& info) {
  if (!h->engine) return h->closing.Value();
  for (auto& [data, view] : h->views)
    if (!view.IsEmpty() && !view.Value().IsEmpty()) view.Value().Detach();
  h->views.clear();
  // On its own thread: the engine waits for its threads, and unmapping gigabytes takes time.
  auto engine = std::make_shared<std::unique_ptr<Engine>>(std::move(h->engine));
  const Napi::Promise closed = promise(
      info.Env(),
      [h](Job job) {
        ++h->reachable;
        h->release = std::move(job);
        h->let_go();
      },
      h, [engine] { engine->reset(); }, Converted{});
  h->closing = Napi::Persistent(closed);
  return closed;
}

Napi::Object engine_object(Napi::Env env, const EngineHandle& h) {
  using Info = const Napi::CallbackInfo&;
  auto o = Napi::Object::New(env);
  const auto add = [&](const char* name, auto f) {
    method(o, name, [h, f](Info i) -> Napi::Value { return f(h, i); });
  };
  /// A function of the engine without arguments, on the driver thread.
  const auto add_run = [&](const char* name, auto f) {
    add(name, [f](const EngineHandle& h, Info i) { return run(i, h, std::mem_fn(f)); });
  };
  add("layout", [](const EngineHandle& h, Info i) { return to_value(i.Env(), engine_of(h)); });
  add("initialize", [](const EngineHandle& h, Info i) {
    const uint64_t seed = bigint(i[0], "seed");
    return run(i, h, [seed](Engine& e) { e.initialize(seed); });
  });
  add("state", state);
  add("posEmbed", [](const EngineHandle& h, Info i) {
    Engine& e = engine_of(h);
    look(h);
    return view(i.Env(), h, e.positions(), e.position_elements());
  });
  add_run("parametersChanged", &Engine::parameters_changed);
  add("attach", attach);
  add("accumulate", accumulate);
  add("gradientParts", gradient_parts);
  add("gradient", [](const EngineHandle& h, Info i) {
    const auto parts = engine_of(h).parts();
    look(h);
    if (parts.empty() || !parts[0].data)
      throw Error("ERR_INTERNAL", "gradient: nothing was accumulated yet that has to be exchanged");
    return bucket_views(i.Env(), h, parts[0].data);
  });
  add_run("gradientNorm", &Engine::gradient_norm);
  add("join", join);
  add("rendezvous", rendezvous);
  add("connectDevices", [](const EngineHandle& h, Info i) {
    const std::string leader = i[0].ToString();
    return run(i, h, [leader](Engine& e) { e.connect_devices(leader); });
  });
  add("abortDevices", [](const EngineHandle& h, Info i) {
    engine_of(h).abort_devices();
    return i.Env().Undefined();
  });
  add("stateLoaded", [](const EngineHandle& h, Info i) {
    const int64_t step = integer(i[0], "the step", 0, UINT32_MAX);
    return run(i, h, [step](Engine& e) { e.state_loaded(step); });
  });
  add_run("reduce", &Engine::reduce);
  add("update", update);
  add("prepareSnapshot", prepare_snapshot);
  add("snapshot", snapshot);
  add("evaluate", evaluate);
  add("predict", predict);
  add("queryKeyRms", query_key_rms);
  add("gradientNorms", gradient_norms);
  add("emaDistance", ema_distance);
  add("freeze", freeze);
  add("evaluateCase", evaluate_case);
  add("profile", profile);
  add("memory", memory);
  add_run("digest", &Engine::digest);
  add_run("attentionBy", &Engine::attention_by);
  add("close", close);
  return o;
}

}  // namespace

Napi::Value create_engine(const Napi::CallbackInfo& info) {
  // Creating an engine computes the parameter table and, on a device, loads libraries and creates a context:
  // too long for the event loop.
  const EngineSpec spec = spec_of(object(info[0], "the engine's options"));
  return promise(
      info.Env(), on_own_thread, nullptr, [spec] { return make_engine(spec); },
      [](Napi::Env env, std::unique_ptr<Engine>& engine) {
        return engine_object(env, std::make_shared<EngineBox>(std::move(engine)));
      });
}
}  // namespace orch::addon
