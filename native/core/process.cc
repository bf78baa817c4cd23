#include "process.h"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "error.h"

// The same numbers on every architecture; older headers lack them.
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

namespace orch {

Process::Process(int pid) : descriptor_(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))) {
  if (descriptor_ >= 0) return;
  if (errno == ESRCH || errno == EINVAL) throw Error("ERR_EXCHANGE", "Process ", pid, " has ended");
  throw Error("ERR_SHARED_MEMORY", "Cannot hold process ", pid, ": ", std::strerror(errno));
}

Process::~Process() { close(descriptor_); }

bool Process::has_ended(int milliseconds) const {
  pollfd watched{descriptor_, POLLIN, 0};
  return poll(&watched, 1, milliseconds) > 0;
}

void Process::kill() const { syscall(SYS_pidfd_send_signal, descriptor_, SIGKILL, nullptr, 0); }

}  // namespace orch
