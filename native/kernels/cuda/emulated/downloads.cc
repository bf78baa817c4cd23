#include "downloads.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>

#include "../../../core/error.h"
#include "emulated_device.h"

namespace orch::emulate {

namespace {
int page_locks_given() {
  const char* given = std::getenv("ORCHESTRATOR_EMULATED_PAGE_LOCKS");
  return given ? std::atoi(given) : -1;
}
}  // namespace

std::atomic<bool> hold_downloads{false};
std::atomic<int> page_locks{page_locks_given()}, failing_downloads{0};

}  // namespace orch::emulate

namespace orch::kernels::cuda {

void Downloads::begin(Contents now) {
  std::lock_guard lock(mutex_);
  while (!copies_.empty()) run_first();  // they compare with what was before
  then_ = std::move(now);
}

void Downloads::enqueue(void* to, const void* from, size_t bytes) {
  std::lock_guard lock(mutex_);
  auto* const p = static_cast<char*>(const_cast<void*>(from));
  auto it = then_.upper_bound(p);
  if (it == then_.begin() || (--it, p + bytes > it->first + it->second.size()))
    throw Error("ERR_CUDA", "A download of memory that the device did not have when the streams waited");
  const Copy copy{to, from, it->second.data() + (p - it->first), bytes};
  ++enqueued_;
  if (!is_locked(to, bytes)) return run(copy);
  std::memset(to, 0xff, bytes);
  copies_.push_back(copy);
}

void Downloads::run(const Copy& copy) {
  if (emulate::failing_downloads > 0) {
    --emulate::failing_downloads;
    failure_ = "The device failed";
    return;
  }
  std::memcpy(copy.to, copy.from, copy.bytes);
  if (std::memcmp(copy.to, copy.before, copy.bytes) != 0)
    failure_ = "What is downloaded was written after the streams had waited for each other";
}

void Downloads::run_first() {
  run(copies_.front());
  copies_.pop_front();
}

void Downloads::await_next() {
  std::unique_lock lock(mutex_);
  if (awaited_ == enqueued_) return;
  const size_t next = awaited_++;
  const auto has_run = [&] { return next < enqueued_ - copies_.size(); };
  while (!has_run() && emulate::hold_downloads) {
    lock.unlock();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    lock.lock();
  }
  while (!has_run()) run_first();
  if (!failure_.empty()) throw Error("ERR_CUDA", std::exchange(failure_, ""));
}

void Downloads::finish() {
  std::lock_guard lock(mutex_);
  while (!copies_.empty()) run_first();
}

std::shared_ptr<void> Downloads::page_lock(void* memory, size_t bytes) {
  if (emulate::page_locks == 0) throw Error("ERR_CUDA", "No more memory can be page-locked");
  if (emulate::page_locks > 0) --emulate::page_locks;
  std::lock_guard lock(mutex_);
  locked_[static_cast<char*>(memory)] = bytes;
  return {memory, [this](void* p) {
            std::lock_guard lock(mutex_);
            locked_.erase(static_cast<char*>(p));
          }};
}

bool Downloads::is_locked(const void* memory, size_t bytes) const {
  const char* const p = static_cast<const char*>(memory);
  auto it = locked_.upper_bound(p);
  return it != locked_.begin() && (--it, p + bytes <= it->first + it->second);
}

}  // namespace orch::kernels::cuda
