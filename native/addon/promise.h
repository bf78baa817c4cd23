// Work on the engine's threads as JavaScript promises, and native errors as JavaScript errors.
#pragma once
#include <napi.h>

#include <functional>
#include <memory>
#include <optional>

#include "../core/error.h"

namespace orch::addon {

inline Napi::Error to_js(Napi::Env env, const std::string& code, const std::string& message) {
  Napi::Error e = Napi::Error::New(env, message);
  e.Set("code", Napi::String::New(env, code));
  return e;
}

/// Runs f; whatever it throws becomes a JavaScript exception with a code.
template <class F>
auto guarded(Napi::Env env, F f) {
  try {
    return f();
  } catch (const Error& e) {
    throw to_js(env, e.code(), e.what());
  } catch (const std::bad_alloc&) {
    throw to_js(env, "ERR_OUT_OF_MEMORY", "Out of memory");
  }
}

using Job = std::function<void()>;

/// Posts `work` through `post` and resolves the promise with finish(env, result) on the event loop. `keep`
/// lives until then.
template <class R>
Napi::Promise promise(Napi::Env env, const std::function<void(Job)>& post, std::shared_ptr<void> keep,
                      std::function<R()> work, std::function<Napi::Value(Napi::Env, R&)> finish) {
  struct State {
    Napi::Promise::Deferred deferred;
    std::shared_ptr<void> keep;
    std::function<R()> work;
    std::function<Napi::Value(Napi::Env, R&)> finish;
    std::optional<R> result;
    std::string code, message;
  };
  auto deferred = Napi::Promise::Deferred::New(env);
  // Owned by the job, then by the event loop: what it keeps must not be let go on an engine's own thread.
  auto* state = new State{deferred, std::move(keep), std::move(work), std::move(finish), {}, {}, {}};
  auto settle = Napi::ThreadSafeFunction::New(env, Napi::Function::New(env, [](const Napi::CallbackInfo&) {}),
                                              "orchestrator", 0, 1);
  post([state, settle]() mutable {
    try {
      state->result.emplace(state->work());
    } catch (const Error& e) {
      state->code = e.code();
      state->message = e.what();
    } catch (const std::bad_alloc&) {
      state->code = "ERR_OUT_OF_MEMORY";
      state->message = "Out of memory";
    } catch (const std::exception& e) {
      state->code = "ERR_INTERNAL";
      state->message = e.what();
    }
    settle.BlockingCall([state](Napi::Env env, Napi::Function) {
      const std::unique_ptr<State> owner(state);
      Napi::HandleScope scope(env);
      if (!state->code.empty())
        return state->deferred.Reject(to_js(env, state->code, state->message).Value());
      try {
        state->deferred.Resolve(guarded(env, [&] { return state->finish(env, *state->result); }));
      } catch (const Napi::Error& e) {
        state->deferred.Reject(e.Value());
      }
    });
    settle.Release();
  });
  return deferred.Promise();
}

}  // namespace orch::addon
