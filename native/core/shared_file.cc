#include "shared_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "error.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // Linux 5.14
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25  // Linux 6.1
#endif

namespace orch {
namespace {
[[noreturn]] void fail(const std::string& what) {
  throw Error("ERR_SHARED_MEMORY", what, ": ", std::strerror(errno));
}

constexpr const char* kName = "orchestrator";

// Whether a link of /proc/PID/fd names memory that was created here, and not a file, a device or a pipe. The
// numbers come from another process, which may have closed the memory and opened something else.
bool names_memory(const std::string& link) {
  char target[64];
  const ssize_t length = readlink(link.c_str(), target, sizeof target);
  return length > 0 &&
         std::string(target, static_cast<size_t>(length)) == std::string("/memfd:") + kName + " (deleted)";
}

int open_memory(int pid, int descriptor) {
  const std::string path = "/proc/" + std::to_string(pid) + "/fd/" + std::to_string(descriptor);
  const auto refuse = [&] {
    throw Error("ERR_SHARED_MEMORY", "Descriptor ", descriptor, " of process ", pid,
                " is not the shared memory of a worker");
  };
  // To open another thing may do something to it, so it is looked at before, and what was opened afterwards.
  if (access(path.c_str(), F_OK) == 0 && !names_memory(path)) refuse();
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT)
    throw Error("ERR_EXCHANGE", "Process ", pid, ", whose memory was to be shared, has ended");
  if (fd < 0) fail("Cannot open the shared memory of process " + std::to_string(pid));
  // A file may have the name, too. It has no seals, unless the root folder is on tmpfs.
  if (names_memory("/proc/self/fd/" + std::to_string(fd)) && fcntl(fd, F_GET_SEALS) >= 0) return fd;
  close(fd);
  refuse();
  return -1;
}
}  // namespace

SharedFile::SharedFile() : fd_(memfd_create(kName, MFD_CLOEXEC)), own_(true) {
  if (fd_ < 0) fail("Cannot create shared memory");
}

SharedFile::SharedFile(int pid, int descriptor) : fd_(open_memory(pid, descriptor)), own_(false) {}

SharedFile::~SharedFile() { close(fd_); }

Buffer SharedFile::map(size_t offset, size_t bytes) const {
  struct stat info;
  if (fstat(fd_, &info) != 0) fail("Cannot examine shared memory");
  const auto size = static_cast<size_t>(info.st_size);
  if (size < offset + bytes) {
    if (!own_) throw Error("ERR_SHARED_MEMORY", "Shared memory is shorter than expected");
    if (ftruncate(fd_, static_cast<off_t>(offset + bytes)) != 0) fail("Cannot extend shared memory");
  }
  // Huge pages need an aligned address: reserve more than needed, and map over the aligned part.
  void* reserved = mmap(nullptr, bytes + kAlignment, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (reserved == MAP_FAILED) throw Error("ERR_OUT_OF_MEMORY", "Cannot reserve ", bytes >> 20, " MiB");
  auto* start = static_cast<char*>(reserved);
  char* at = start + (kAlignment - reinterpret_cast<uintptr_t>(start) % kAlignment) % kAlignment;
  if (mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd_, static_cast<off_t>(offset)) ==
      MAP_FAILED) {
    munmap(reserved, bytes + kAlignment);
    fail("Cannot map shared memory");
  }
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  char* end = at + (bytes + page - 1) / page * page;
  if (at > start) munmap(start, static_cast<size_t>(at - start));
  munmap(end, static_cast<size_t>(start + bytes + kAlignment - end));
  Buffer buffer(at, bytes, own_);
  if (!own_) return buffer;
  // Allocate the pages now: if memory is short, that is an error here and would be a fatal signal later. Then
  // ask for huge pages, which systems seldom give shared memory by default. Older kernels support neither.
  if (madvise(at, bytes, MADV_POPULATE_WRITE) == 0)
    madvise(at, bytes, MADV_COLLAPSE);
  else if (errno != EINVAL)
    throw Error("ERR_OUT_OF_MEMORY", "Cannot allocate ", bytes >> 20, " MiB of shared memory");
  return buffer;
}

}  // namespace orch
