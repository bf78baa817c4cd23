#include "fake_transport.h"

#include <chrono>
#include <cstring>

#include "core/error.h"
#include "harness.h"

namespace orch::test {
namespace {
/// Until make_compute_stream_wait() the device may find any value there, so NaN.
void fill_with_nan(float* data, int64_t elements) { std::memset(data, 0xff, sizeof(float) * elements); }
/// Waits until `done`, or longer than any operation here takes, and returns false then. It counts polls
/// instead of measuring time, because the process may be suspended.
template <class Done>
bool await_change(std::condition_variable& changed, std::unique_lock<std::mutex>& lock, const Done& done) {
  for (int looks = 0; !done(); ++looks) {
    if (looks > 600) return false;
    changed.wait_for(lock, std::chrono::milliseconds(100));
  }
  return true;
}
}  // namespace

std::mutex& one_rank() {
  static std::mutex mutex;
  return mutex;
}

// --- the meeting point of ranks

std::string Meeting::complaint() {
  std::lock_guard lock(mutex_);
  return complaint_;
}

void Meeting::complain(const std::string& what) {
  std::lock_guard lock(mutex_);
  if (complaint_.empty()) complaint_ = what;
}

std::vector<std::vector<float>> Meeting::meet(int rank, size_t number, Call call,
                                              const std::atomic<bool>& over) {
  const Call own = call;
  std::unique_lock lock(mutex_);
  auto& all = calls_[number];
  all[rank] = std::move(call);
  changed_.notify_all();
  if (!await_change(changed_, lock, [&] { return over || all.size() == static_cast<size_t>(ranks_); }))
    complaint_ = text("rank ", rank, " waits for others at call ", number);
  if (all.size() < static_cast<size_t>(ranks_)) throw Error("ERR_EXCHANGE", "The exchange was closed");
  std::vector<std::vector<float>> received;
  std::vector<size_t> taken(ranks_);
  const auto wrong = [&](const std::string& what) {
    if (complaint_.empty()) complaint_ = text("call ", number, " of rank ", rank, ": ", what);
    throw Error("ERR_EXCHANGE", complaint_);
  };
  const auto sent_by = [&](int peer) {
    std::vector<const std::vector<float>*> list;
    for (const auto& [to, data] : all.at(peer).sends)
      if (to == rank) list.push_back(&data);
    return list;
  };
  for (const auto& [peer, elements] : own.receives) {
    if (peer < 0 || peer >= ranks_ || peer == rank) wrong(text("a receive from rank ", peer));
    if (all.at(peer).gathers != own.gathers) wrong(text("another call than rank ", peer, "'s"));
    const auto sent = sent_by(peer);
    const size_t i = taken[peer]++;
    if (i >= sent.size()) wrong(text("receive ", i, " from rank ", peer, " without a send"));
    if (static_cast<int64_t>(sent[i]->size()) != elements)
      wrong(text(elements, " elements wanted of rank ", peer, ", which sends ", sent[i]->size()));
    received.push_back(*sent[i]);
  }
  for (int peer = 0; peer < ranks_; ++peer)
    if (sent_by(peer).size() != taken[peer]) wrong(text("a send of rank ", peer, " without a receive"));
  return received;
}

// --- the stream

FakeTransport::FakeTransport(FakeDevice& device, std::shared_ptr<Meeting> meeting, int rank, Fault fault)
    : device_(device),
      meeting_(std::move(meeting)),
      rank_(rank),
      fault_(fault),
      random_(static_cast<unsigned>(rank)),
      thread_([this] { work(); }) {}

FakeTransport::~FakeTransport() {
  abort();
  {
    std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void FakeTransport::abort() {
  over_ = true;
  meeting_->wake();
  std::lock_guard lock(mutex_);
  changed_.notify_all();
}

void FakeTransport::count_call() {
  if (over_) throw Error("ERR_EXCHANGE", "The exchange was closed");
  if (calls_++ != fault_.call) return;
  over_ = true;  // work enqueued before is discarded
  meeting_->wake();
  if (fault_.kills) throw Killed{};
  throw Error("ERR_EXCHANGE", "planted");
}

void FakeTransport::work() {
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
      if (!over_) next();
    } catch (const Error& e) {
      failure = e.what();
    }
    lock.lock();
    busy_ = false;
    if (failure_.empty()) failure_ = failure;
    changed_.notify_all();
  }
}

void FakeTransport::queue(std::function<void()> work) {
  std::lock_guard lock(mutex_);
  work_.push_back(std::move(work));
  changed_.notify_all();
}

void FakeTransport::drain() {
  one_rank().unlock();
  bool done;
  {
    std::unique_lock lock(mutex_);
    done =
        await_change(changed_, lock, [&] { return over_ || !failure_.empty() || (work_.empty() && !busy_); });
  }
  one_rank().lock();
  if (!done) meeting_->complain(text("rank ", rank_, " hangs"));
  if (!failure_.empty() || over_ || !done)
    throw Error("ERR_EXCHANGE", failure_.empty() ? "The exchange was closed" : failure_);
}

char* FakeTransport::seen(const void* address, size_t bytes) {
  char* const p = static_cast<char*>(const_cast<void*>(address));
  auto it = memory_.upper_bound(p);
  if (it == memory_.begin() || (--it, p + bytes > it->first + it->second.size())) {
    meeting_->complain(text("rank ", rank_, " uses memory that its device does not have"));
    throw Error("ERR_EXCHANGE", "no such memory");
  }
  return it->second.data() + (p - it->first);
}

void FakeTransport::meet(Meeting::Call call, const std::vector<float*>& to) {
  const auto received = meeting_->meet(rank_, meetings_++, std::move(call), over_);
  for (size_t i = 0; i < to.size(); ++i) {
    const char* from = reinterpret_cast<const char*>(received[i].data());
    const size_t bytes = received[i].size() * sizeof(float);
    std::memcpy(seen(to[i], bytes), from, bytes);
    arrived_.push_back({reinterpret_cast<char*>(to[i]), Bytes(from, from + bytes)});
  }
}

void FakeTransport::send_receive(const std::vector<Transfer>& transfers) {
  count_call();
  for (const Transfer& t : transfers)
    if (t.direction == Transfer::Receive) fill_with_nan(t.data, t.elements);
  queue([this, transfers] {
    Meeting::Call call{false, {}, {}};
    std::vector<float*> to;
    for (const Transfer& t : transfers) {
      if (t.direction == Transfer::Receive) {
        call.receives.emplace_back(t.peer, t.elements);
        to.push_back(t.data);
        continue;
      }
      const auto* from = reinterpret_cast<const float*>(seen(t.data, sizeof(float) * t.elements));
      call.sends.emplace_back(t.peer, std::vector<float>(from, from + t.elements));
    }
    meet(std::move(call), to);
  });
}

void FakeTransport::all_gather(float* shares, int64_t elements) {
  count_call();
  for (int peer = 0; peer < ranks(); ++peer)
    if (peer != rank_) fill_with_nan(shares + peer * elements, elements);
  queue([this, shares, elements] {
    Meeting::Call call{true, {}, {}};
    std::vector<float*> to;
    const auto* own =
        reinterpret_cast<const float*>(seen(shares + rank_ * elements, sizeof(float) * elements));
    for (int peer = 0; peer < ranks(); ++peer) {
      if (peer == rank_) continue;
      call.sends.emplace_back(peer, std::vector<float>(own, own + elements));
      call.receives.emplace_back(peer, elements);
      to.push_back(shares + peer * elements);
    }
    meet(std::move(call), to);
  });
}

void FakeTransport::wait_for_compute_stream() {
  count_call();
  std::map<char*, Bytes> now;
  for (const auto& [start, bytes] : device_.memory) now.emplace(start, Bytes(start, start + bytes));
  queue([this, now = std::move(now)]() mutable {
    memory_ = std::move(now);
    for (const auto& [to, bytes] : arrived_) std::memcpy(seen(to, bytes.size()), bytes.data(), bytes.size());
  });
}

void FakeTransport::make_compute_stream_wait() {
  count_call();
  drain();
  for (const auto& [to, bytes] : arrived_) std::memcpy(to, bytes.data(), bytes.size());
  arrived_.clear();
}

void FakeTransport::wait() {
  count_call();
  drain();
}

}  // namespace orch::test
