// A transport between emulated devices, whose stream is a thread. It gives no more than the guarantees of
// streams: the transport sees the device's memory as it was at wait_for_compute_stream(), the device sees the
// received data from make_compute_stream_wait() on and NaN before, and work takes random times.
#include "transport.h"

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <random>
#include <thread>

#include "../../../core/error.h"
#include "meeting.h"

namespace orch::kernels::cuda {
namespace {

class EmulatedTransport final : public graph::Transport {
 public:
  EmulatedTransport(std::string name, int rank, int ranks, std::function<Contents()> contents, AtCall at_call)
      : meeting_(std::move(name), rank, ranks),
        rank_(rank),
        ranks_(ranks),
        contents_(std::move(contents)),
        at_call_(std::move(at_call)),
        random_(static_cast<unsigned>(rank)),
        thread_([this] { work(); }) {
    enqueue([this] { meeting_.join(); });
  }
  ~EmulatedTransport() override {
    meeting_.abort();
    {
      std::lock_guard lock(mutex_);
      ending_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  void send_receive(const std::vector<Transfer>& transfers) override {
    count_call();
    enqueue_exchange(transfers, false);
  }
  void all_gather(float* shares, int64_t elements) override {
    count_call();
    std::vector<Transfer> transfers;
    for (int peer = 0; peer < ranks_; ++peer) {
      if (peer == rank_) continue;
      transfers.push_back({Transfer::Send, peer, shares + rank_ * elements, elements});
      transfers.push_back({Transfer::Receive, peer, shares + peer * elements, elements});
    }
    enqueue_exchange(transfers, true);
  }
  void add(float* to, const float* a, const float* b, int64_t elements) override {
    count_call();
    poison(to, elements);
    enqueue([=, this] {
      const float *const left = seen(a, elements), *const right = seen(b, elements);
      std::vector<float> sum(elements);
      for (int64_t i = 0; i < elements; ++i) sum[i] = left[i] + right[i];
      std::memcpy(seen(to, elements), sum.data(), bytes(sum));
      arrived_.push_back({to, std::move(sum)});
    });
  }
  void wait_for_compute_stream() override {
    count_call();
    enqueue([this, now = contents_()]() mutable {
      memory_ = std::move(now);
      for (const auto& [to, data] : arrived_) std::memcpy(seen(to, data.size()), data.data(), bytes(data));
    });
  }
  void make_compute_stream_wait() override {
    count_call();
    drain();
    for (const auto& [to, data] : arrived_) std::memcpy(to, data.data(), bytes(data));
    arrived_.clear();
  }
  void wait() override {
    count_call();
    drain();
  }
  void abort() override {
    meeting_.abort();
    std::lock_guard lock(mutex_);
    changed_.notify_all();
  }

 private:
  /// Until make_compute_stream_wait() the device may find any value there, so NaN.
  static void poison(float* data, int64_t elements) { std::memset(data, 0xff, sizeof(float) * elements); }
  static size_t bytes(const std::vector<float>& data) { return data.size() * sizeof(float); }
  void fail_if_over() const {
    if (!failure_.empty()) throw Error("ERR_EXCHANGE", failure_);
    if (meeting_.aborted()) throw Error("ERR_EXCHANGE", "The exchange was closed");
  }
  void count_call() {
    {
      std::lock_guard lock(mutex_);
      fail_if_over();
    }
    try {
      if (at_call_) at_call_(calls_++);
    } catch (...) {
      meeting_.abort();  // work enqueued before is discarded
      throw;
    }
  }

  void enqueue(std::function<void()> work) {
    std::lock_guard lock(mutex_);
    work_.push_back(std::move(work));
    changed_.notify_all();
  }
  void enqueue_exchange(const std::vector<Transfer>& transfers, bool gathers) {
    for (const Transfer& t : transfers)
      if (t.direction == Transfer::Receive) poison(t.data, t.elements);
    enqueue([this, transfers, gathers] {
      Meeting::Call call{gathers, {}, {}};
      for (const Transfer& t : transfers) {
        call.transfers.push_back({t.direction, t.peer, t.elements});
        const float* const data = seen(t.data, t.elements);
        if (t.direction == Transfer::Send) call.sent.insert(call.sent.end(), data, data + t.elements);
      }
      const std::vector<float> received = meeting_.exchange(std::move(call));
      for (const float* from = received.data(); const Transfer& t : transfers) {
        if (t.direction == Transfer::Send) continue;
        arrived_.push_back({t.data, {from, from + t.elements}});
        std::memcpy(seen(t.data, t.elements), from, sizeof(float) * t.elements);
        from += t.elements;
      }
    });
  }
  /// Waits until the stream is idle.
  void drain() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return meeting_.aborted() || !failure_.empty() || (work_.empty() && !busy_); });
    fail_if_over();
  }
  /// The thread that acts as the stream.
  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return ending_ || !work_.empty(); });
      if (ending_) return;
      const auto next = std::move(work_.front());
      work_.pop_front();
      busy_ = true;
      lock.unlock();
      std::string failure;
      try {
        if (const unsigned delay = random_() % 4)
          std::this_thread::sleep_for(std::chrono::microseconds(100 * delay));
        if (!meeting_.aborted() && failure_.empty()) next();
      } catch (const Error& e) {
        failure = e.what();
      }
      lock.lock();
      busy_ = false;
      if (failure_.empty()) failure_ = failure;
      changed_.notify_all();
    }
  }
  /// An address of the device's memory, as this transport sees it.
  float* seen(const float* address, int64_t elements) {
    char* const p = reinterpret_cast<char*>(const_cast<float*>(address));
    auto it = memory_.upper_bound(p);
    if (it == memory_.begin() || (--it, p + sizeof(float) * elements > it->first + it->second.size()))
      throw Error("ERR_EXCHANGE", "NCCL's rules are broken: rank ", rank_,
                  " uses memory that its device did not have when the streams waited");
    return reinterpret_cast<float*>(it->second.data() + (p - it->first));
  }

  Meeting meeting_;
  const int rank_, ranks_;
  const std::function<Contents()> contents_;
  const AtCall at_call_;
  int calls_ = 0;
  // Used by the thread that acts as the stream, and by others while it is idle:
  Contents memory_;
  std::vector<std::pair<float*, std::vector<float>>> arrived_;  ///< data that the device does not see yet
  std::mt19937 random_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> work_;
  bool busy_ = false, ending_ = false;
  std::string failure_;
  std::thread thread_;
};

}  // namespace

std::string emulated_rendezvous(int ordinal, bool leads) {
  return "GPU-emulated-" + std::to_string(ordinal) + "/no NCCL/" + (leads ? Meeting::offer() : "");
}

std::unique_ptr<graph::Transport> emulated_connect(const std::string& leader, int rank, int ranks,
                                                   std::function<Contents()> contents, AtCall at_call) {
  return std::make_unique<EmulatedTransport>(leader.substr(leader.rfind('/') + 1), rank, ranks,
                                             std::move(contents), std::move(at_call));
}

}  // namespace orch::kernels::cuda
