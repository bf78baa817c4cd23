#include "file_lock.h"

#include <fcntl.h>

#include <cerrno>
#include <cstring>

#include "error.h"

namespace orch {
namespace {

/// The whole file, exclusively.
struct flock whole() {
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return lock;
}

[[noreturn]] void no_locks() {
  throw Error("ERR_SYSTEM", "The file system refuses to lock a file: ", std::strerror(errno));
}

}  // namespace

bool lock_file(int descriptor) {
  struct flock lock = whole();
  if (fcntl(descriptor, F_OFD_SETLK, &lock) == 0) return true;
  if (errno != EAGAIN && errno != EACCES) no_locks();
  return false;
}

bool is_locked(int descriptor) {
  struct flock lock = whole();
  if (fcntl(descriptor, F_OFD_GETLK, &lock) != 0) no_locks();
  return lock.l_type != F_UNLCK;
}

}  // namespace orch
