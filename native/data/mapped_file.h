// A file mapped into memory, read-only.
#pragma once
#include <cstdint>
#include <string>

#include "bus_guard.h"

namespace orch {

class MappedFile {
 public:
  /// Maps the whole file. Throws Error(ERR_FILE_OPEN) if it is missing, not readable or not a regular file,
  /// Error(ERR_FILE_TRUNCATED) if its size is not `expected_bytes` (-1 accepts any), or Error(ERR_FILE_MAP).
  explicit MappedFile(const std::string& path, int64_t expected_bytes = -1);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  const uint8_t* data() const { return data_; }
  uint64_t size() const { return size_; }
  /// Throws Error(ERR_FILE_TRUNCATED) if bytes that were read are no longer in the file; they read as zeros.
  /// Call it after reading and before using the values.
  void require_whole() const;

 private:
  std::string path_;
  const uint8_t* data_ = nullptr;
  uint64_t size_ = 0;
  GuardedRange* guard_ = nullptr;
};

}  // namespace orch
