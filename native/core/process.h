// Another process of this machine, held by a descriptor (pidfd): unlike its pid, that never comes to mean
// another process.
#pragma once

namespace orch {

class Process {
 public:
  /// Throws Error(ERR_EXCHANGE) if there is no such process, and Error(ERR_SHARED_MEMORY) if the system
  /// cannot hold one (Linux before 5.3, or a sandbox).
  explicit Process(int pid);
  Process(const Process&) = delete;
  ~Process();

  /// Whether all its threads have ended, and with them every access to memory. Waits for at most this long.
  bool has_ended(int milliseconds) const;
  /// Sends SIGKILL, which also ends a stopped process.
  void kill() const;

 private:
  const int descriptor_;
};

}  // namespace orch
