#include "mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "../core/error.h"

namespace orch {

MappedFile::MappedFile(const std::string& path, int64_t expected_bytes) : path_(path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw Error("ERR_FILE_OPEN", "Cannot open ", path, ": ", std::strerror(errno));
  struct stat status;
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(fd);
    throw Error("ERR_FILE_OPEN", path, " is not a regular file");
  }
  if (expected_bytes >= 0 && status.st_size != expected_bytes) {
    close(fd);
    throw Error("ERR_FILE_TRUNCATED", path, " has ", status.st_size, " bytes, expected ", expected_bytes);
  }
  size_ = static_cast<uint64_t>(status.st_size);
  if (size_ > 0) {
    void* address = mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd, 0);
    const int error = errno;
    if (address == MAP_FAILED) {
      close(fd);
      throw Error("ERR_FILE_MAP", "Cannot map ", path, " (", size_, " bytes): ", std::strerror(error));
    }
    data_ = static_cast<const uint8_t*>(address);
    guard_ = guard(address, size_);
  }
  close(fd);
}

MappedFile::~MappedFile() {
  if (!data_) return;
  unguard(guard_);
  munmap(const_cast<uint8_t*>(data_), size_);
}

void MappedFile::require_whole() const {
  if (!guard_ || !failed(guard_)) return;
  throw Error("ERR_FILE_TRUNCATED", path_,
              " was truncated, or could not be read, while it was in use: it had ", size_,
              " bytes when it was opened");
}

}  // namespace orch
