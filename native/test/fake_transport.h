// Ranks in one process: each has its own device (the emulator's kernels, separate memory) and a transport
// whose stream is a thread. NCCL's rules are checked: all ranks make the same calls in the same order, and
// sends match receives of the same size. Nothing beyond the guarantees of streams is provided: the transport
// sees the device's memory as it was at wait_for_compute_stream(), the device sees the received data from
// make_compute_stream_wait() on and NaN before, and work takes random times.
#pragma once
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <thread>

#include "graph/device.h"
#include "kernels/cuda/emulated/emulated_device.h"

namespace orch::test {

/// The emulator runs one rank at a time: a rank holds this mutex except while it waits for others.
std::mutex& one_rank();

/// The meeting point of the ranks of a communicator.
class Meeting {
 public:
  explicit Meeting(int ranks) : ranks_(ranks) {}

  struct Call {
    bool gathers;
    std::vector<std::pair<int, std::vector<float>>> sends;  ///< (peer, data)
    std::vector<std::pair<int, int64_t>> receives;          ///< (peer, elements)
  };
  /// Returns what was sent to this rank, in the order of its receives, once all ranks have made this call.
  /// Throws Error(ERR_EXCHANGE) if `over`.
  std::vector<std::vector<float>> meet(int rank, size_t number, Call call, const std::atomic<bool>& over);
  void wake() { changed_.notify_all(); }

  int ranks() const { return ranks_; }
  /// A call at which NCCL would hang, or which it would mistake for another; empty if there was none.
  std::string complaint();
  void complain(const std::string& what);

 private:
  const int ranks_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<size_t, std::map<int, Call>> calls_;
  std::string complaint_;
};

/// A killed rank: thrown by the transport, caught only by the test.
struct Killed {};
/// The call of a transport, counted from 0, at which it fails, and how. -1: never.
struct Fault {
  int call = -1;
  bool kills = false;
};

class FakeDevice;

class FakeTransport final : public graph::Transport {
 public:
  FakeTransport(FakeDevice& device, std::shared_ptr<Meeting> meeting, int rank, Fault fault);
  ~FakeTransport() override;
  int rank() const { return rank_; }
  int ranks() const { return meeting_->ranks(); }
  void send_receive(const std::vector<Transfer>& transfers) override;
  void all_gather(float* shares, int64_t elements) override;
  void wait_for_compute_stream() override;
  void make_compute_stream_wait() override;
  void wait() override;
  void abort() override;

 private:
  using Bytes = std::vector<char>;
  void count_call();
  void queue(std::function<void()> work);
  void meet(Meeting::Call call, const std::vector<float*>& to);
  void drain();
  void work();
  char* seen(const void* address, size_t bytes);

  FakeDevice& device_;
  const std::shared_ptr<Meeting> meeting_;
  const int rank_;
  const Fault fault_;
  int calls_ = 0;
  size_t meetings_ = 0;
  std::atomic<bool> over_{false};
  // Used by the thread that acts as the stream:
  std::map<char*, Bytes> memory_;                 ///< the device's memory, as this transport sees it
  std::vector<std::pair<char*, Bytes>> arrived_;  ///< data that the device does not see yet
  std::mt19937 random_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> work_;
  bool busy_ = false, ending_ = false;
  std::string failure_;
  std::thread thread_;
};

/// The emulated device, with memory of its own.
class FakeDevice final : public graph::Device {
 public:
  using Connect = std::function<std::unique_ptr<graph::Transport>(FakeDevice&, int rank)>;
  explicit FakeDevice(Connect connect) : connect_(std::move(connect)) {}

  std::map<char*, size_t> memory;

  const kernels::Table& kernels() const override { return d_.kernels(); }
  bool sums_with(const graph::MatmulSpec& s) const override { return d_.sums_with(s); }
  std::unique_ptr<graph::Op> matmul(const char* name, const graph::MatmulSpec& s) const override {
    return d_.matmul(name, s);
  }
  Description describe() const override { return d_.describe(); }
  Buffer allocate(size_t bytes) override {
    const auto owner = std::make_shared<Buffer>(d_.allocate(bytes));
    memory[owner->as<char>()] = bytes;
    return {{owner->data(), [this, owner](void* p) { memory.erase(static_cast<char*>(p)); }}, bytes};
  }
  size_t held_bytes() const override { return d_.held_bytes(); }
  Buffer allocate_host(size_t bytes) override { return d_.allocate_host(bytes); }
  void upload(void* to, const void* from, size_t bytes) override { d_.upload(to, from, bytes); }
  void make_copy_stream_wait() override { d_.make_copy_stream_wait(); }
  void upload_async(void* to, const void* from, size_t bytes) override { d_.upload_async(to, from, bytes); }
  void wait_for_copy_stream() override { d_.wait_for_copy_stream(); }
  void download(void* to, const void* from, size_t bytes) override { d_.download(to, from, bytes); }
  void copy(void* to, const void* from, size_t bytes) override { d_.copy(to, from, bytes); }
  void fill(void* to, int byte, size_t bytes) override { d_.fill(to, byte, bytes); }
  void synchronize() override { d_.synchronize(); }
  uint64_t record_event() override { return d_.record_event(); }
  void await_event(uint64_t event) override { d_.await_event(event); }
  std::function<void()> record(const std::function<void()>& work) override { return d_.record(work); }
  double time(const std::function<void()>& work) override { return d_.time(work); }
  std::vector<double> matmul_times(const graph::MatmulSpec& s) override { return d_.matmul_times(s); }
  Launches take_launches() override { return d_.take_launches(); }
  std::string rendezvous(bool) override { return "GPU-fake/fake/"; }
  std::unique_ptr<graph::Transport> connect(const std::string&, int rank, int) override {
    return connect_(*this, rank);
  }

 private:
  graph::Device& d_ = kernels::cuda::emulated_device();
  const Connect connect_;
};

}  // namespace orch::test
