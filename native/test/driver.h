// Runs work on an engine's driver thread and waits for it.
#pragma once
#include <condition_variable>
#include <exception>
#include <mutex>

#include "engine/engine.h"

namespace orch::test {

/// Runs f() on an engine's driver; returns its result or rethrows its exception.
template <class F>
auto on_driver(Engine& e, F f) {
  decltype(f()) result;
  std::exception_ptr failure;
  std::mutex m;
  std::condition_variable c;
  bool done = false;
  e.pool().post([&] {
    try {
      result = f();
    } catch (...) {
      failure = std::current_exception();
    }
    std::lock_guard lock(m);
    done = true;
    c.notify_one();
  });
  std::unique_lock lock(m);
  c.wait(lock, [&] { return done; });
  if (failure) std::rethrow_exception(failure);
  return result;
}

}  // namespace orch::test
