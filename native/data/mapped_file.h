// A file mapped into memory, read-only.
#pragma once
#include <cstdint>
#include <string>

#include "bus_guard.h"

namespace orch {

class MappedFile {
 public:
  /// Maps the whole file. Throws ERR_FILE_OPEN (missing, no permission, not a regular file),
  /// ERR_FILE_TRUNCATED (its size is not `expected_bytes`; -1 accepts any) or ERR_FILE_MAP.
  explicit MappedFile(const std::string& path, int64_t expected_bytes = -1);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  const uint8_t* data() const { return data_; }
  uint64_t size() const { return size_; }
  /// Throws ERR_FILE_TRUNCATED if bytes that were read meanwhile were not there. They read as zeros: to be
  /// called after reading, and before what was read is used.
  void require_whole() const;

 private:
  std::string path_;
  const uint8_t* data_ = nullptr;
  uint64_t size_ = 0;
  GuardedRange* guard_ = nullptr;
};

}  // namespace orch
