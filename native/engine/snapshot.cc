// A copy of the state in host memory, made beside the driver's work: by a thread on the CPU, and on a GPU by
// a stream of its own, which only what writes the state has to wait for.
#include <algorithm>
#include <iterator>
#include <system_error>

#include "../core/clock.h"
#include "../core/error.h"
#include "../core/watchdog.h"
#include "../faults/faults.h"
#include "engine.h"

namespace orch {
namespace {

constexpr int64_t kPart = 1 << 22;  // elements: 16 MiB

}  // namespace

void Engine::await_snapshot() {
  const InStage now_at(Stage::Wait);
  std::unique_lock lock(snapshot_mutex_);
  snapshot_changed_.wait(lock, [&] { return !snapshot_.running; });
}

void Engine::before_writing() {
  {
    const InStage now_at(Stage::Wait);
    std::unique_lock lock(snapshot_mutex_);
    if (!snapshot_.running) return;
    if (!snapshot_.awaited_since) snapshot_.awaited_since = seconds_now();
    snapshot_changed_.wait(lock, [&] { return snapshot_.enqueued; });
  }
  device_.wait_for_snapshot_stream();
}

void Engine::snapshot(std::function<void(std::exception_ptr)> done) {
  await_snapshot();
  if (snapshot_thread_.joinable()) snapshot_thread_.join();
  try {
    device_.make_snapshot_stream_wait();
    if (group_) group_->hold();
  } catch (const Error&) {  // the device fails, or this worker has left the group
    return done(std::current_exception());
  }
  {
    std::lock_guard lock(snapshot_mutex_);
    snapshot_ = {.running = true};
  }
  // Once it does not run any more, the driver may join a group.
  const auto end = [this, group = group_, done = std::move(done)](std::exception_ptr failure) {
    if (group) group->release();
    {
      std::lock_guard lock(snapshot_mutex_);
      if (snapshot_.awaited_since) snapshot_.stall_seconds = seconds_now() - *snapshot_.awaited_since;
      snapshot_.running = false;
      snapshot_.enqueued = true;
    }
    snapshot_changed_.notify_all();
    done(failure);
  };
  try {
    snapshot_thread_ = std::thread([this, end] { end(copy_state()); });
  } catch (...) {  // the system has no more threads
    end(std::current_exception());
  }
}

std::exception_ptr Engine::copy_state() {
  Copying copying;
  std::exception_ptr failure;
  const auto guarded = [&](const auto& work) {
    try {
      work();
    } catch (...) {
      if (!failure) failure = std::current_exception();
    }
  };
  int64_t parts = 0;
  guarded([&] {  // usually out of memory: the first snapshot allocates a copy of the state
    for (State s : states_) enqueue_copy(s, copying, parts);
  });
  {
    std::lock_guard lock(snapshot_mutex_);
    snapshot_.enqueued = true;
  }
  snapshot_changed_.notify_all();
  // All of them, because the memory may be freed afterwards.
  for (; parts > 0; --parts) {
    guarded([&] { device_.await_download(); });
    copying.tick();
  }
  return failure;
}

void Engine::prepare_snapshot() {
  if (device_.is_cpu() || preparing_.joinable()) return;
  const auto prepare = [this] {
    try {
      for (State s : states_)
        for (int64_t part = 0; part < snapshot_parts(); ++part) {
          if (closing_) return;
          get_snapshot_part(s, part);
        }
    } catch (const std::exception&) {  // the snapshot fails in the same way, and says so
    }
  };
  try {
    preparing_ = std::thread(prepare);
  } catch (const std::system_error&) {  // the system has no more threads
  }
}

int64_t Engine::snapshot_parts() const { return (table_.length + kPart - 1) / kPart; }

void Engine::get_snapshot_part(State s, int64_t part) {
  const std::lock_guard lock(snapshot_memory_mutex_);
  HostCopy& to = array(s).snapshot;
  if (!to.memory) to.memory = Buffer(flat_bytes());
  for (int64_t i = std::ssize(to.locked); i <= part && pageable_.empty(); ++i) try {
      const int64_t length = std::min(kPart, table_.length - i * kPart);
      to.locked.push_back(
          device_.page_lock(to.memory.as<float>() + i * kPart, sizeof(float) * static_cast<size_t>(length)));
    } catch (const Error& e) {
      pageable_ = e.what();
    }
}

void Engine::enqueue_copy(State s, Copying& copying, int64_t& parts) {
  for (int64_t part = 0; part < snapshot_parts(); ++part) {
    ORCH_FAULT_IF(s != states_.front(), copying);
    get_snapshot_part(s, part);  // those before are copied meanwhile
    const int64_t at = part * kPart, length = std::min(kPart, table_.length - at);
    device_.download_async(array(s).snapshot.memory.as<float>() + at, flat(s) + at,
                           sizeof(float) * static_cast<size_t>(length));
    ++parts;
    copying.tick();
  }
}

}  // namespace orch
