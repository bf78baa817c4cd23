// Work on an engine's driver thread, waited for.
#pragma once
#include <condition_variable>
#include <exception>
#include <mutex>

#include "engine/engine.h"

namespace orch::test {

/// f() on the driver of an engine; its result, or what it threw.
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
