// A transport between the emulated devices of several processes: every rank sends all its data to rank 0,
// over a socket in Linux's abstract namespace, and receives its results from there. Work is done when a call
// returns.
#include "transport.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <map>
#include <thread>
#include <utility>

#include "../../../core/error.h"

namespace orch::kernels::cuda {
namespace {

[[noreturn]] void fail(const std::string& what) { throw Error("ERR_EXCHANGE", what); }

class Socket {
 public:
  explicit Socket(int fd = -1) : fd_(fd) {}
  Socket(Socket&& o) noexcept : fd_(std::exchange(o.fd_, -1)) {}
  Socket& operator=(Socket&& o) noexcept {
    std::swap(fd_, o.fd_);
    return *this;
  }
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  int fd() const { return fd_; }

 private:
  int fd_;
};

std::pair<sockaddr_un, socklen_t> address_of(const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const size_t length = std::min(name.size(), sizeof address.sun_path - 1);
  std::memcpy(address.sun_path + 1, name.data(), length);
  return {address, static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + length)};
}

/// Rank 0's listening sockets, from the rendezvous until it connects.
std::map<std::string, Socket> offered;

struct Header {
  int32_t direction, peer;
  int64_t elements;
};
/// What a rank passes to a call and what it expects from it.
struct Call {
  std::vector<Header> transfers;
  std::map<int, std::vector<std::vector<float>>> sent;  ///< by receiver
};

class EmulatedTransport final : public graph::Transport {
 public:
  EmulatedTransport(std::string name, int rank, int ranks)
      : name_(std::move(name)), rank_(rank), ranks_(ranks) {
    if (rank > 0) return;
    listening_ = std::move(offered[name_]);
    offered.erase(name_);
  }

  void send_receive(const std::vector<Transfer>& transfers) override {
    meet();
    Call own;
    for (const Transfer& t : transfers) {
      own.transfers.push_back({t.direction, t.peer, t.elements});
      if (t.direction == Transfer::Send) own.sent[t.peer].emplace_back(t.data, t.data + t.elements);
    }
    std::vector<float> received;
    if (rank_ == 0) {
      std::map<int, Call> calls;
      for (int r = 1; r < ranks_; ++r) calls[r] = read_call(r);
      calls[0] = std::move(own);
      for (int r = 1; r < ranks_; ++r) {
        const auto due = due_to(r, calls);
        write(r, due.data(), due.size() * sizeof(float));
      }
      received = due_to(0, calls);
    } else {
      const int64_t count = static_cast<int64_t>(own.transfers.size());
      write(0, &count, sizeof count);
      write(0, own.transfers.data(), own.transfers.size() * sizeof(Header));
      size_t elements = 0;
      for (const Transfer& t : transfers) {
        if (t.direction == Transfer::Send)
          write(0, t.data, static_cast<size_t>(t.elements) * sizeof(float));
        else
          elements += static_cast<size_t>(t.elements);
      }
      received.resize(elements);
      read(0, received.data(), elements * sizeof(float));
    }
    const float* from = received.data();
    for (const Transfer& t : transfers) {
      if (t.direction == Transfer::Send) continue;
      std::memcpy(t.data, from, static_cast<size_t>(t.elements) * sizeof(float));
      from += t.elements;
    }
  }

  void all_gather(float* shares, int64_t elements) override {
    std::vector<Transfer> transfers;
    for (int peer = 0; peer < ranks_; ++peer) {
      if (peer == rank_) continue;
      transfers.push_back({Transfer::Send, peer, shares + rank_ * elements, elements});
      transfers.push_back({Transfer::Receive, peer, shares + peer * elements, elements});
    }
    send_receive(transfers);
  }

  void wait_for_compute_stream() override { check(); }
  void make_compute_stream_wait() override { check(); }
  void wait() override { meet(); }
  void abort() override { aborted_ = true; }

 private:
  void check() const {
    if (aborted_) fail("The exchange was closed");
  }
  /// Waits until the socket is ready.
  void await(int fd, short events) const {
    for (pollfd p{fd, events, 0};;) {
      check();
      if (poll(&p, 1, 20) > 0) return;
    }
  }

  void meet() {
    check();
    if (!peers_.empty() || ranks_ == 1) return;
    if (rank_ == 0) {
      while (static_cast<int>(peers_.size()) < ranks_ - 1) {
        await(listening_.fd(), POLLIN);
        Socket peer(accept(listening_.fd(), nullptr, nullptr));
        const int fd = peer.fd();
        int32_t rank = 0;
        peers_[0] = std::move(peer);
        read(0, &rank, sizeof rank);
        peers_[rank] = std::move(peers_[0]);
        peers_.erase(0);
        if (fd < 0 || rank < 1 || rank >= ranks_) fail("A stranger came");
      }
      return;
    }
    Socket socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto [address, length] = address_of(name_);
    while (::connect(socket.fd(), reinterpret_cast<const sockaddr*>(&address), length) != 0) {
      check();
      if (errno != ECONNREFUSED) fail("Rank 0 cannot be reached: " + std::string(std::strerror(errno)));
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    peers_[0] = std::move(socket);
    const int32_t rank = rank_;
    write(0, &rank, sizeof rank);
  }

  Call read_call(int peer) {
    Call call;
    int64_t count = 0;
    read(peer, &count, sizeof count);
    call.transfers.resize(static_cast<size_t>(count));
    read(peer, call.transfers.data(), call.transfers.size() * sizeof(Header));
    for (const Header& h : call.transfers) {
      if (h.direction != Transfer::Send) continue;
      std::vector<float> data(static_cast<size_t>(h.elements));
      read(peer, data.data(), data.size() * sizeof(float));
      call.sent[h.peer].push_back(std::move(data));
    }
    return call;
  }

  /// What a rank receives in a call, in the order of its receives.
  static std::vector<float> due_to(int rank, std::map<int, Call>& calls) {
    std::vector<float> due;
    std::map<int, size_t> taken;
    for (const Header& h : calls[rank].transfers) {
      if (h.direction == Transfer::Send) continue;
      const auto& sent = calls[h.peer].sent[rank];
      const size_t i = taken[h.peer]++;
      if (i >= sent.size() || static_cast<int64_t>(sent[i].size()) != h.elements)
        fail("Rank " + std::to_string(h.peer) + " does not send what rank " + std::to_string(rank) +
             " receives");
      due.insert(due.end(), sent[i].begin(), sent[i].end());
    }
    return due;
  }

  void read(int peer, void* to, size_t bytes) {
    const int fd = peers_[peer].fd();
    for (char* p = static_cast<char*>(to); bytes > 0;) {
      await(fd, POLLIN);
      const ssize_t n = recv(fd, p, bytes, 0);
      if (n <= 0) fail("Rank " + std::to_string(peer) + " is gone");
      p += n;
      bytes -= static_cast<size_t>(n);
    }
  }
  void write(int peer, const void* from, size_t bytes) {
    const int fd = peers_[peer].fd();
    for (const char* p = static_cast<const char*>(from); bytes > 0;) {
      await(fd, POLLOUT);
      const ssize_t n = send(fd, p, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n < 0 && errno != EAGAIN) fail("Rank " + std::to_string(peer) + " is gone");
      p += std::max<ssize_t>(n, 0);
      bytes -= static_cast<size_t>(std::max<ssize_t>(n, 0));
    }
  }

  const std::string name_;
  const int rank_, ranks_;
  Socket listening_;
  std::map<int, Socket> peers_;  ///< of rank 0: all others; of the others: rank 0
  std::atomic<bool> aborted_{false};
};

}  // namespace

std::string emulated_rendezvous(int ordinal, bool leads) {
  static int offers = 0;
  std::string name;
  if (leads) {
    name = "orchestrator-emulated-" + std::to_string(getpid()) + "-" + std::to_string(offers++);
    Socket socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto [address, length] = address_of(name);
    if (bind(socket.fd(), reinterpret_cast<const sockaddr*>(&address), length) != 0 ||
        listen(socket.fd(), 64) != 0)
      throw Error("ERR_CUDA", "No socket for emulated devices: ", std::strerror(errno));
    offered[name] = std::move(socket);
  }
  return "GPU-emulated-" + std::to_string(ordinal) + "/no NCCL/" + name;
}

std::unique_ptr<graph::Transport> emulated_connect(const std::string& leader, int rank, int ranks) {
  return std::make_unique<EmulatedTransport>(leader.substr(leader.rfind('/') + 1), rank, ranks);
}

}  // namespace orch::kernels::cuda
