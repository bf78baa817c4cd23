#include "pool.h"

#include <sys/resource.h>

#include <utility>

#include "watchdog.h"

namespace orch {

namespace {
constexpr int kNiceness = 5;
}

void begin_compute_thread() {
  // Compute threads keep their cores busy all the time. A slightly lower priority lets the event loop of the
  // same process, which is idle most of the time, run as soon as it has work. On Linux this call affects the
  // calling thread only.
  setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + kNiceness);
}

Pool::Pool(int threads) {
  try {
    for (int i = 1; i < threads; ++i) helpers_.emplace_back([this, i] { help(i); });
    driver_ = std::thread([this] { drive(); });
  } catch (...) {  // the system has no more threads
    finish();
    throw;
  }
}

void Pool::finish() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  posted_.notify_all();
  if (driver_.joinable()) driver_.join();
  work_.notify_all();
  for (auto& t : helpers_)
    if (t.joinable()) t.join();
}

void Pool::post(std::function<void()> job) {
  {
    std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  posted_.notify_one();
}

void Pool::drive() {
  begin_compute_thread();
  for (;;) {
    std::function<void()> job;
    {
      std::unique_lock lock(mutex_);
      posted_.wait(lock, [&] { return stopping_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    const InStage now_at(Stage::Compute);
    job();
  }
}

void Pool::help(int thread) {
  begin_compute_thread();
  uint64_t seen = 0;
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      work_.wait(lock, [&] { return (stopping_ && jobs_.empty() && piece_ == nullptr) || round_ != seen; });
      if (round_ == seen) return;
      seen = round_;
      if (piece_ == nullptr) continue;
      ++busy_;
    }
    take_pieces(thread);
    {
      std::lock_guard lock(mutex_);
      --busy_;
    }
    idle_.notify_one();
  }
}

void Pool::take_pieces(int thread) {
  for (;;) {
    int64_t index;
    {
      std::lock_guard lock(mutex_);
      if (next_ >= count_ || failure_) return;
      index = next_++;
    }
    try {
      (*piece_)(index, thread);
      tick();
    } catch (...) {
      std::lock_guard lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
    }
  }
}

void Pool::parallel(int64_t count, const std::function<void(int64_t, int)>& piece) {
  {
    std::lock_guard lock(mutex_);
    piece_ = &piece;
    count_ = count;
    next_ = 0;
    failure_ = nullptr;
    ++round_;
  }
  if (count > 1) work_.notify_all();
  take_pieces(0);
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [&] { return busy_ == 0; });
  piece_ = nullptr;
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

}  // namespace orch
