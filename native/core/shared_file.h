// Memory that processes of one machine map together: a file without a name, gone with its last user.
#pragma once
#include <string>

#include "memory.h"

namespace orch {

class SharedFile {
 public:
  SharedFile() = default;
  /// A new file of this process, empty. Throws Error(ERR_SHARED_MEMORY).
  static SharedFile create();
  /// The file that process `pid` holds as `descriptor`. Throws Error(ERR_SHARED_MEMORY).
  static SharedFile open(int pid, int descriptor);
  SharedFile(SharedFile&& o) noexcept;
  SharedFile& operator=(SharedFile&& o) noexcept;
  ~SharedFile();

  int descriptor() const { return fd_; }
  /// Bytes [offset, offset + bytes) of the file; the process that made it lets it grow, and answers for the
  /// memory. Zeroed where nobody has written. `offset` must be a multiple of kAlignment. Throws
  /// Error(ERR_SHARED_MEMORY), or ERR_OUT_OF_MEMORY.
  Buffer map(size_t offset, size_t bytes) const;

  /// Of huge pages: with 4 KiB ones a step of the demo takes 3 to 5 % longer (measured on Zen 5).
  static constexpr size_t kAlignment = size_t{1} << 21;

 private:
  SharedFile(int fd, bool own) : fd_(fd), own_(own) {}
  int fd_ = -1;
  bool own_ = false;
};

}  // namespace orch
