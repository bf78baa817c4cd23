// Where the ranks of emulated devices exchange data, in one process or in several of a machine: every rank
// sends all its data to rank 0, over a socket in Linux's abstract namespace, and receives its results from
// there. So rank 0 sees every rank's call, and checks NCCL's rules: all ranks make the same calls in the same
// order, and sends match receives of the same size.
#pragma once
#include <atomic>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "../../../graph/transport.h"

namespace orch::kernels::cuda {

/// A file descriptor, closed at the end.
class Socket {
 public:
  explicit Socket(int fd = -1) : fd_(fd) {}
  Socket(Socket&& o) noexcept : fd_(std::exchange(o.fd_, -1)) {}
  Socket& operator=(Socket&& o) noexcept {
    std::swap(fd_, o.fd_);
    return *this;
  }
  ~Socket();
  int fd() const { return fd_; }

 private:
  int fd_;
};

class Meeting {
 public:
  /// What a rank passes to a call and what it expects from it.
  struct Call {
    struct Header {
      int32_t direction, peer;
      int64_t elements;
    };
    int32_t gathers;  ///< whether it is an all-gather
    std::vector<Header> transfers;
    std::vector<float> sent;  ///< the data of all sends, in their order
  };

  /// Listens under a new name, as the rank 0 of one meeting. Throws Error(ERR_CUDA).
  static std::string offer();
  /// @param name what offer() returned
  Meeting(std::string name, int rank, int ranks);

  // Both wait for the other ranks. They throw Error(ERR_EXCHANGE).
  void join();
  /// What this rank receives, in the order of its receives.
  std::vector<float> exchange(Call own);

  /// Makes calls in progress and later ones throw. May be called from any thread.
  void abort() { aborted_ = true; }
  bool aborted() const { return aborted_; }

 private:
  /// Waits until the socket is ready.
  void await(int fd, short events) const;
  Call read_call(int peer);
  /// What a rank receives in a call.
  std::vector<float> due_to(int rank, const std::vector<Call>& calls) const;
  void read(int peer, void* to, size_t bytes);
  void write(int peer, const void* from, size_t bytes);

  const std::string name_;
  const int rank_, ranks_;
  Socket listening_;
  std::map<int, Socket> peers_;  ///< of rank 0: all others; of the others: rank 0
  std::atomic<bool> aborted_{false};
};

}  // namespace orch::kernels::cuda
