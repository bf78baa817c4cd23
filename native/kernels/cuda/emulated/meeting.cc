#include "meeting.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <span>
#include <thread>

#include "../../../core/error.h"

namespace orch::kernels::cuda {

using Transfer = graph::Transport::Transfer;

namespace {

template <class... Parts>
[[noreturn]] void fail(const Parts&... what) {
  throw Error("ERR_EXCHANGE", what...);
}

std::pair<sockaddr_un, socklen_t> address_of(const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const size_t length = std::min(name.size(), sizeof address.sun_path - 1);
  std::memcpy(address.sun_path + 1, name.data(), length);
  return {address, static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + length)};
}

/// The elements of all sends or of all receives of a call.
size_t elements(const Meeting::Call& call, int direction) {
  size_t sum = 0;
  for (const auto& h : call.transfers)
    if (h.direction == direction) sum += static_cast<size_t>(h.elements);
  return sum;
}

/// Rank 0's listening sockets, from the rendezvous until it connects.
std::map<std::string, Socket> offered;

}  // namespace

Socket::~Socket() {
  if (fd_ >= 0) close(fd_);
}

std::string Meeting::offer() {
  static int offers = 0;
  const std::string name =
      "orchestrator-emulated-" + std::to_string(getpid()) + "-" + std::to_string(offers++);
  Socket socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto [address, length] = address_of(name);
  if (bind(socket.fd(), reinterpret_cast<const sockaddr*>(&address), length) != 0 ||
      listen(socket.fd(), 64) != 0)
    throw Error("ERR_CUDA", "No socket for emulated devices: ", std::strerror(errno));
  offered[name] = std::move(socket);
  return name;
}

Meeting::Meeting(std::string name, int rank, int ranks) : name_(std::move(name)), rank_(rank), ranks_(ranks) {
  if (rank > 0) return;
  listening_ = std::move(offered[name_]);
  offered.erase(name_);
}

void Meeting::await(int fd, short events) const {
  for (pollfd p{fd, events, 0};;) {
    if (aborted_) fail("The exchange was closed");
    if (poll(&p, 1, 20) > 0) return;
  }
}

void Meeting::join() {
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
    if (aborted_) fail("The exchange was closed");
    if (errno != ECONNREFUSED) fail("Rank 0 cannot be reached: ", std::strerror(errno));
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  peers_[0] = std::move(socket);
  const int32_t rank = rank_;
  write(0, &rank, sizeof rank);
}

std::vector<float> Meeting::exchange(Call own) {
  if (rank_ == 0) {
    std::vector<Call> calls{std::move(own)};
    for (int r = 1; r < ranks_; ++r) calls.push_back(read_call(r));
    std::vector<std::vector<float>> due;
    for (int r = 0; r < ranks_; ++r) due.push_back(due_to(r, calls));
    for (int r = 1; r < ranks_; ++r) write(r, due[r].data(), due[r].size() * sizeof(float));
    return due[0];
  }
  const int64_t count = static_cast<int64_t>(own.transfers.size());
  write(0, &own.gathers, sizeof own.gathers);
  write(0, &count, sizeof count);
  write(0, own.transfers.data(), own.transfers.size() * sizeof(Call::Header));
  write(0, own.sent.data(), own.sent.size() * sizeof(float));
  std::vector<float> received(elements(own, Transfer::Receive));
  read(0, received.data(), received.size() * sizeof(float));
  return received;
}

Meeting::Call Meeting::read_call(int peer) {
  Call call{};
  int64_t count = 0;
  read(peer, &call.gathers, sizeof call.gathers);
  read(peer, &count, sizeof count);
  call.transfers.resize(static_cast<size_t>(count));
  read(peer, call.transfers.data(), call.transfers.size() * sizeof(Call::Header));
  call.sent.resize(elements(call, Transfer::Send));
  read(peer, call.sent.data(), call.sent.size() * sizeof(float));
  return call;
}

std::vector<float> Meeting::due_to(int rank, const std::vector<Call>& calls) const {
  const auto wrong = [&](const auto&... what) { fail("NCCL's rules are broken: rank ", rank, " ", what...); };
  const Call& own = calls[rank];
  if (own.gathers != calls[0].gathers) wrong("makes another call than rank 0");
  std::vector<std::vector<std::span<const float>>> sent(calls.size());  // to this rank, by sender
  for (size_t peer = 0; peer < calls.size(); ++peer)
    for (const float* from = calls[peer].sent.data(); const Call::Header& h : calls[peer].transfers) {
      if (h.direction != Transfer::Send) continue;
      if (h.peer == rank) sent[peer].push_back({from, static_cast<size_t>(h.elements)});
      from += h.elements;
    }
  std::vector<float> due;
  std::vector<size_t> taken(calls.size());
  for (const Call::Header& h : own.transfers) {
    if (h.peer < 0 || h.peer >= ranks_ || h.peer == rank) wrong("exchanges data with rank ", h.peer);
    if (h.direction == Transfer::Send) continue;
    const size_t i = taken[h.peer]++;
    if (i >= sent[h.peer].size()) wrong("receives what rank ", h.peer, " does not send");
    const auto data = sent[h.peer][i];
    if (static_cast<int64_t>(data.size()) != h.elements)
      wrong("receives ", h.elements, " elements of rank ", h.peer, ", which sends ", data.size());
    due.insert(due.end(), data.begin(), data.end());
  }
  for (size_t peer = 0; peer < calls.size(); ++peer)
    if (sent[peer].size() != taken[peer]) wrong("does not receive all that rank ", peer, " sends");
  return due;
}

void Meeting::read(int peer, void* to, size_t bytes) {
  const int fd = peers_[peer].fd();
  for (char* p = static_cast<char*>(to); bytes > 0;) {
    await(fd, POLLIN);
    const ssize_t n = recv(fd, p, bytes, 0);
    if (n <= 0) fail("Rank ", peer, " is gone");
    p += n;
    bytes -= static_cast<size_t>(n);
  }
}

void Meeting::write(int peer, const void* from, size_t bytes) {
  const int fd = peers_[peer].fd();
  for (const char* p = static_cast<const char*>(from); bytes > 0;) {
    await(fd, POLLOUT);
    const ssize_t n = send(fd, p, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN) fail("Rank ", peer, " is gone");
    p += std::max<ssize_t>(n, 0);
    bytes -= static_cast<size_t>(std::max<ssize_t>(n, 0));
  }
}

}  // namespace orch::kernels::cuda
