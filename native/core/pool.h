// The engine's threads: one driver that takes jobs in order, and helpers that share a job's pieces with it.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace orch {

/// What every thread that computes calls first: a little less priority than the event loop's.
void begin_compute_thread();

class Pool {
 public:
  /// @param threads compute threads in all, the driver among them
  explicit Pool(int threads);
  ~Pool() { finish(); }
  /// Does the jobs already posted, and ends the threads. Nothing may be posted any more.
  void finish();

  /// Runs `job` on the driver thread after those posted before it. Jobs must not throw.
  void post(std::function<void()> job);

  /// Calls piece(index, thread) for every index < count, spread over the threads; for jobs on the driver
  /// only. The first exception is rethrown when all have ended.
  void parallel(int64_t count, const std::function<void(int64_t index, int thread)>& piece);

  int threads() const { return static_cast<int>(helpers_.size()) + 1; }

 private:
  void drive();
  void help(int thread);
  void take_pieces(int thread);

  std::mutex mutex_;
  std::condition_variable posted_, work_, idle_;
  std::deque<std::function<void()>> jobs_;
  bool stopping_ = false;

  const std::function<void(int64_t, int)>* piece_ = nullptr;
  int64_t count_ = 0, next_ = 0;
  int busy_ = 0;
  uint64_t round_ = 0;
  std::exception_ptr failure_;

  std::vector<std::thread> helpers_;
  std::thread driver_;
};

}  // namespace orch
