// Runs work on the engine's threads as JavaScript promises, and converts native errors to JavaScript errors.
#pragma once
#include <napi.h>

#include <functional>
#include <memory>
#include <optional>
#include <system_error>
#include <thread>

#include "../core/error.h"

namespace orch::addon {

inline Napi::Error to_js(Napi::Env env, const std::string& code, const std::string& message) {
  Napi::Error e = Napi::Error::New(env, message);
  e.Set("code", Napi::String::New(env, code));
  return e;
}

struct Failure {
  std::string code, message;
};

/// The exception being handled, as it is passed to JavaScript. Call it in a catch block.
inline Failure failure() {
  try {
    throw;
  } catch (const Error& e) {
    return {e.code(), e.what()};
  } catch (const std::bad_alloc&) {
    return {"ERR_OUT_OF_MEMORY", "Out of memory"};
  } catch (const std::system_error& e) {
    const bool thread = e.code() == std::errc::resource_unavailable_try_again;
    return {"ERR_SYSTEM",
            (thread ? "No thread can be started (ulimit -u, or the container's limit of processes): "
                    : "The operating system refused an operation: ") +
                std::string(e.what())};
  } catch (const std::exception& e) {
    return {"ERR_INTERNAL", e.what()};
  }
}

/// Runs f; any exception becomes a JavaScript exception with a code. An exception that leaves a callback
/// would end the process.
template <class F>
auto guarded(Napi::Env env, F f) {
  try {
    return f();
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::exception&) {
    const Failure why = failure();
    throw to_js(env, why.code, why.message);
  }
}

using Job = std::function<void()>;

/// Runs a job on a new thread.
inline void on_own_thread(Job job) { std::thread(std::move(job)).detach(); }

/// The result of work that has none.
struct Nothing {};

/// Posts `work` through `post` and resolves the promise with finish(env, result) on the event loop. `keep` is
/// kept alive until then.
template <class Work, class Finish>
Napi::Promise promise(Napi::Env env, const std::function<void(Job)>& post, std::shared_ptr<void> keep,
                      Work work, Finish finish) {
  constexpr bool kReturns = !std::is_void_v<std::invoke_result_t<Work&>>;
  struct State {
    Napi::Promise::Deferred deferred;
    std::shared_ptr<void> keep;
    Work work;
    Finish finish;
    std::optional<std::conditional_t<kReturns, std::invoke_result_t<Work&>, Nothing>> result;
    std::optional<Failure> failed;
  };
  auto deferred = Napi::Promise::Deferred::New(env);
  // Owned by the job, then by the event loop: `keep` must not be released on an engine's own thread.
  auto* state = new State{deferred, std::move(keep), std::move(work), std::move(finish), {}, {}};
  auto settle = Napi::ThreadSafeFunction::New(env, Napi::Function::New(env, [](const Napi::CallbackInfo&) {}),
                                              "orchestrator", 0, 1);
  Job job = [state, settle]() mutable {
    try {
      if constexpr (kReturns) {
        state->result.emplace(state->work());
      } else {
        state->work();
        state->result.emplace();
      }
    } catch (const std::exception&) {
      state->failed = failure();
    }
    settle.BlockingCall([state](Napi::Env env, Napi::Function) {
      const std::unique_ptr<State> owner(state);
      Napi::HandleScope scope(env);
      if (state->failed)
        return state->deferred.Reject(to_js(env, state->failed->code, state->failed->message).Value());
      try {
        state->deferred.Resolve(guarded(env, [&] { return state->finish(env, *state->result); }));
      } catch (const Napi::Error& e) {
        state->deferred.Reject(e.Value());
      }
    });
    settle.Release();
  };
  try {
    post(std::move(job));
  } catch (const std::exception&) {  // the system has no more threads
    const std::unique_ptr<State> owner(state);
    const Failure why = failure();
    settle.Release();
    deferred.Reject(to_js(env, why.code, why.message).Value());
  }
  return deferred.Promise();
}

}  // namespace orch::addon
