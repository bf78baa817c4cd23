// Memory that several processes of one machine map: an anonymous file (memfd), which disappears with its last
// user.
#pragma once
#include "memory.h"

namespace orch {

class SharedFile {
 public:
  /// Creates an empty file, owned by this process. Throws Error(ERR_SHARED_MEMORY).
  SharedFile();
  /// Opens the file that process `pid` holds as `descriptor`. Throws Error(ERR_EXCHANGE) if that has ended,
  /// and Error(ERR_SHARED_MEMORY) if it is something else or the system refuses it.
  SharedFile(int pid, int descriptor);
  SharedFile(const SharedFile&) = delete;
  ~SharedFile();

  int descriptor() const { return fd_; }
  /// Maps bytes [offset, offset + bytes) of the file. In the process that created it, the file grows as
  /// needed and the memory is counted (memory_use). Unwritten bytes are zero. `offset` must be a
  /// multiple of kAlignment. Throws Error(ERR_SHARED_MEMORY) or Error(ERR_OUT_OF_MEMORY).
  Buffer map(size_t offset, size_t bytes) const;

  /// The size of a huge page. With 4 KiB pages a step of the demo takes 3 to 5 % longer (measured on Zen 5).
  static constexpr size_t kAlignment = size_t{1} << 21;
  /// The next multiple of it.
  static constexpr size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

 private:
  const int fd_;
  const bool own_;
};

}  // namespace orch
