#include "mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <mutex>

#include "../core/error.h"

namespace orch {

/// The bytes of a mapping that the handler watches. Never freed, because the handler may traverse the list at
/// any time; reused for later mappings.
struct MappedFile::Range {
  std::atomic<uintptr_t> begin{0}, end{0};  ///< both 0: unused
  std::atomic<bool> failed{false};
  Range* next = nullptr;
};

namespace {

std::atomic<MappedFile::Range*> ranges{nullptr};
std::atomic<bool> any{false};
struct sigaction before;
uintptr_t page_size;
std::mutex changes;

/// Uses only async-signal-safe operations: loads, stores, and mmap, which on Linux is a plain system call.
void on_bus_error(int, siginfo_t* info, void*) {
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  for (auto* range = ranges.load(); range; range = range->next) {
    const uintptr_t end = range->end.load();
    if (address < range->begin.load() || address >= end) continue;
    // The mark is set first: another thread that reads the zeros without faulting must find it.
    range->failed.store(true);
    any.store(true);
    const uintptr_t page = address & ~(page_size - 1);
    void* zeros = mmap(reinterpret_cast<void*>(page), end - page, PROT_READ,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (zeros == MAP_FAILED) break;
    return;
  }
  // Not a watched range: restore the previous handler; the instruction runs again and reaches it.
  sigaction(SIGBUS, &before, nullptr);
}

/// With `changes` held.
MappedFile::Range* unused_range() {
  auto* range = ranges.load();
  if (!range) {  // the first mapping
    page_size = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    struct sigaction action {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, &before);
  }
  while (range && range->end.load() != 0) range = range->next;
  if (range) return range;
  range = new MappedFile::Range;
  range->next = ranges.load();
  ranges.store(range);
  return range;
}

}  // namespace

MappedFile::MappedFile(const std::string& path, int64_t expected_bytes) : path_(path) {
  // Non-blocking, because a named pipe would hang here.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) throw Error("ERR_FILE_OPEN", "Cannot open ", path, ": ", std::strerror(errno));
  struct stat status;
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(fd);
    throw Error("ERR_FILE_OPEN", path, " is not a regular file");
  }
  if (status.st_size != expected_bytes) {
    close(fd);
    throw Error("ERR_FILE_TRUNCATED", path, " has ", status.st_size, " bytes, expected ", expected_bytes);
  }
  size_ = static_cast<uint64_t>(status.st_size);
  void* address = size_ > 0 ? mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd, 0) : nullptr;
  const int error = errno;
  close(fd);
  if (address == MAP_FAILED)
    throw Error("ERR_FILE_MAP", "Cannot map ", path, " (", size_, " bytes): ", std::strerror(error));
  if (!address) return;
  data_ = static_cast<const uint8_t*>(address);
  const std::lock_guard lock(changes);
  range_ = unused_range();
  range_->failed.store(false);
  const auto begin = reinterpret_cast<uintptr_t>(address);
  range_->begin.store(begin);
  range_->end.store(begin + size_);
}

MappedFile::~MappedFile() {
  if (!data_) return;
  {
    const std::lock_guard lock(changes);
    range_->end.store(0);
    range_->begin.store(0);
  }
  munmap(const_cast<uint8_t*>(data_), size_);
}

bool MappedFile::any_failed() { return any.load(std::memory_order_relaxed); }

void MappedFile::require_whole() const {
  if (!range_ || !range_->failed.load()) return;
  throw Error("ERR_FILE_TRUNCATED", path_,
              " was truncated, or could not be read, while it was in use: it had ", size_,
              " bytes when it was opened");
}

void drop_cached_pages(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) throw Error("ERR_FILE_OPEN", "Cannot open ", path, ": ", std::strerror(errno));
  posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);  // advice: what a file system does not support it ignores
  close(fd);
}

}  // namespace orch
