// Memory that several processes of one machine map: an anonymous file (memfd), which disappears with its last
// user.
#pragma once
#include <string>

#include "memory.h"

namespace orch {

class SharedFile {
 public:
  SharedFile() = default;
  /// Creates an empty file, owned by this process. Throws Error(ERR_SHARED_MEMORY).
  static SharedFile create();
  /// Opens the file that process `pid` holds as `descriptor`. Throws Error(ERR_SHARED_MEMORY).
  static SharedFile open(int pid, int descriptor);
  SharedFile(SharedFile&& o) noexcept;
  SharedFile& operator=(SharedFile&& o) noexcept;
  ~SharedFile();

  int descriptor() const { return fd_; }
  /// Maps bytes [offset, offset + bytes) of the file. In the process that created it, the file grows as
  /// needed and the memory is counted (memory_use). Unwritten bytes are zero. `offset` must be a
  /// multiple of kAlignment. Throws Error(ERR_SHARED_MEMORY) or Error(ERR_OUT_OF_MEMORY).
  Buffer map(size_t offset, size_t bytes) const;

  /// The size of a huge page. With 4 KiB pages a step of the demo takes 3 to 5 % longer (measured on Zen 5).
  static constexpr size_t kAlignment = size_t{1} << 21;

 private:
  SharedFile(int fd, bool own) : fd_(fd), own_(own) {}
  int fd_ = -1;
  bool own_ = false;
};

}  // namespace orch
