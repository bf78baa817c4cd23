// The engine's threads: one driver, which runs jobs in order, and helpers, which share the pieces of a job.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace orch {

/// Every compute thread calls this first. It lowers the thread's priority a little below the event loop's.
void begin_compute_thread();

class Pool {
 public:
  /// @param threads number of compute threads, including the driver
  explicit Pool(int threads);
  ~Pool() { finish(); }
  /// Runs the jobs already posted, then ends the threads. No job may be posted afterwards.
  void finish();

  /// Runs `job` on the driver thread, after all jobs posted before. Jobs must not throw.
  void post(std::function<void()> job);

  /// Calls piece(index, thread) once for every index in [0, count), spread over the threads. Only jobs on the
  /// driver may call it. After an exception no further piece is started; the first exception is rethrown when
  /// all threads have finished.
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
