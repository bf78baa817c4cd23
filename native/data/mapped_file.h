// A file mapped into memory, read-only.
#pragma once
#include <cstdint>
#include <string>

namespace orch {

/// Reading a mapped file that was truncated, or whose disk fails, raises SIGBUS, which would end the process.
/// A handler, which the first file installs, marks the mapping as failed instead, and maps zeros in place of
/// its rest. Faults outside of mapped files go to the previous handler.
class MappedFile {
 public:
  /// Maps the whole file. Throws Error(ERR_FILE_OPEN) if it is missing, not readable or not a regular file,
  /// Error(ERR_FILE_TRUNCATED) if its size is not `expected_bytes`, or Error(ERR_FILE_MAP).
  MappedFile(const std::string& path, int64_t expected_bytes);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  const uint8_t* data() const { return data_; }
  uint64_t size() const { return size_; }
  /// Throws Error(ERR_FILE_TRUNCATED) if bytes that were read are no longer in the file; they read as zeros.
  /// Call it after reading and before using the values.
  void require_whole() const;
  /// Whether a read of any file has failed since the process started. It is a single load, for the usual case
  /// in which none has.
  static bool any_failed();

  struct Range;

 private:
  std::string path_;
  const uint8_t* data_ = nullptr;
  uint64_t size_ = 0;
  Range* range_ = nullptr;
};

/// Asks the system to drop the flushed pages of a file from memory, so that they are next read from the disk.
/// File systems that live in memory keep them. Throws Error(ERR_FILE_OPEN).
void drop_cached_pages(const std::string& path);

}  // namespace orch
