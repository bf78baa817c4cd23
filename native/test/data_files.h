// Temporary files of data tests.
#pragma once
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "harness.h"

namespace orch::test {

/// A file with the given bytes, removed on destruction.
class TemporaryFile {
 public:
  template <class T>
  explicit TemporaryFile(const std::vector<T>& values) {
    const char* folder = std::getenv("TMPDIR");
    path_ = std::string(folder ? folder : "/tmp") + "/orch-test-XXXXXX";
    const int fd = mkstemp(path_.data());
    const size_t bytes = values.size() * sizeof(T);
    CHECK(fd >= 0 && write(fd, values.data(), bytes) == static_cast<ssize_t>(bytes), path_);
    close(fd);
  }
  ~TemporaryFile() { unlink(path_.c_str()); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace orch::test
