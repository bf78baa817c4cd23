// Asynchronous copies from an emulated device to the host, on a stream of their own.
#pragma once
#include <cstddef>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "transport.h"

namespace orch::kernels::cuda {

/// A copy into page-locked memory runs as late as allowed, and until then the memory is NaN: when the compute
/// stream waits for it, when memory is freed, or when the host waits for it, unless emulate::hold_downloads()
/// says that the compute stream comes first. What it copies must not have changed since the streams waited
/// for each other: on a GPU it may run at any moment in between. Into other memory it runs at once.
class Downloads {
 public:
  /// @param now what the device's memory holds, when downloads wait for the compute stream
  void begin(Contents now);
  /// Throws Error(ERR_CUDA) if the device did not have the memory then.
  void enqueue(void* to, const void* from, size_t bytes);
  /// Waits for the first copy that was not awaited yet. Throws Error(ERR_CUDA) if what one copied has
  /// changed.
  void await_next();
  /// Runs all of them.
  void finish();
  /// Throws Error(ERR_CUDA) if emulate::page_locks says so.
  std::shared_ptr<void> page_lock(void* memory, size_t bytes);

 private:
  struct Copy {
    void* to;
    const void *from, *before;  ///< before: the same in `then_`
    size_t bytes;
  };
  void run(const Copy& copy);
  void run_first();
  bool is_locked(const void* memory, size_t bytes) const;

  std::mutex mutex_;
  Contents then_;
  std::deque<Copy> copies_;
  size_t enqueued_ = 0, awaited_ = 0;
  std::map<const char*, size_t> locked_;
  std::string failure_;
};

}  // namespace orch::kernels::cuda
