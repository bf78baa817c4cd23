// Temporary files of data tests.
#pragma once
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "../core/error.h"
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

/// Checks that `body` throws orch::Error with this code and that its message contains `part`.
inline void check_throws(const char* code, const char* part, const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& e) {
    CHECK(e.code() == code, "expected ", code, ", got ", e.code(), ": ", e.what());
    CHECK(std::string(e.what()).find(part) != std::string::npos, "\"", part, "\" is not in: ", e.what());
    return;
  }
  CHECK(false, "expected ", code, ", nothing was thrown");
}

}  // namespace orch::test
