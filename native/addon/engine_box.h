// What an engine object holds, for how long, and what JavaScript may see of its memory.
#pragma once
#include <atomic>
#include <map>

#include "../engine/engine.h"
#include "convert.h"
#include "engine_values.h"

namespace orch::addon {

/// The native part of an engine object, kept alive by its functions, views and pending promises.
struct EngineBox {
  explicit EngineBox(std::unique_ptr<Engine> e) : engine(std::move(e)) {
    const auto& list = engine->table().parameters;
    for (size_t i = 0; i < list.size(); ++i) parameters.emplace(list[i].name, i);
  }

  std::unique_ptr<Engine> engine;  ///< null: closed
  std::map<std::string, size_t> parameters;
  /// By address: one ArrayBuffer for each range of memory that was ever viewed, because V8 allows only one
  /// per address. The references are weak, so that unused ones can be collected.
  std::map<void*, Napi::Reference<Napi::ArrayBuffer>> views;
  /// Memory that JavaScript may still reach: a buffer may have been transferred out of its view, where
  /// close() does not find it.
  int64_t reachable = 0;
  bool viewed = false;                ///< a view was given, or asked for
  std::atomic<bool> joining = false;  ///< the state's memory is being exchanged for the group's
  std::atomic<bool> joined = false;   ///< it was, and stays where it is
  Job release;                        ///< waits until nothing is reachable
  Napi::Reference<Napi::Promise> closing;

  void let_go() {
    if (--reachable == 0 && release) on_own_thread(std::exchange(release, nullptr));
  }
};
using EngineHandle = std::shared_ptr<EngineBox>;

inline Engine& engine_of(const EngineHandle& h) {
  if (!h->engine) throw Error("ERR_HANDLE", "The engine is closed");
  return *h->engine;
}

/// Memory is about to be looked at. Throws ERR_INTERNAL while that is not safe.
inline void look(const EngineHandle& h) {
  if (h->joining)
    throw Error("ERR_INTERNAL", "The engine is joining a group: its state can be looked at afterwards");
  h->viewed = true;
}

inline size_t parameter_of(Napi::Env env, const EngineHandle& h, const Napi::Value& name) {
  const auto found = h->parameters.find(name.ToString());
  if (found == h->parameters.end()) wrong(env, "the tensor's name", "a parameter of the model");
  return found->second;
}

/// Runs `work` on the engine's driver thread; resolves with finish(env, result).
template <class Work, class Finish = Converted>
Napi::Promise run(const Napi::CallbackInfo& info, const EngineHandle& h, Work work, Finish finish = {}) {
  Engine* e = &engine_of(h);
  return promise(
      info.Env(), [e](Job job) { e->pool().post(std::move(job)); }, h,
      [e, work = std::move(work)]() mutable { return work(*e); }, std::move(finish));
}

/// A view of one parameter, or of one bucket of a gradient. A view of the whole array of a model above
/// 1,073,741,824 parameters would exceed the limit of Node.js 20 (4 GiB).
inline Napi::Float32Array view(Napi::Env env, const EngineHandle& h, float* data, int64_t elements) {
  auto& slot = h->views[data];
  if (slot.IsEmpty() || slot.Value().IsEmpty()) {
    auto* keep = new EngineHandle(h);
    ++h->reachable;
    slot = Napi::Weak(Napi::ArrayBuffer::New(env, data, static_cast<size_t>(elements) * sizeof(float),
                                             [keep](Napi::Env, void*) {
                                               (*keep)->let_go();
                                               delete keep;
                                             }));
  }
  return Napi::Float32Array::New(env, static_cast<size_t>(elements), slot.Value(), 0);
}

inline Napi::Float32Array view(Napi::Env env, const EngineHandle& h, float* data, size_t parameter) {
  return view(env, h, data, h->engine->table().parameters[parameter].length);
}

}  // namespace orch::addon
