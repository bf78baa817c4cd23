#include "group.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <random>

#include "../core/error.h"
#include "../kernels/kernels.h"

namespace orch {
namespace {

constexpr int kMaxParts = 128;                  // per member: two for each level of the tree
constexpr int kSpins = 2000;                    // about 20 us; a sleep and a wake-up cost as much
constexpr long kCheckNanoseconds = 50'000'000;  // between two checks whether the group was aborted

/// This boot of this machine and the pid namespace: a pid is meaningful only there.
std::string machine() {
  std::string boot;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), boot);
  char name[64] = "";
  if (readlink("/proc/self/ns/pid", name, sizeof(name) - 1) < 0) name[0] = '\0';
  return boot + ":" + name;
}

}  // namespace

struct Group::Member {
  alignas(64) std::atomic<uint64_t> exchanges;  // number of exchanges for which its parts are complete
  int32_t parts;
  struct {
    int64_t lo, hi;
    uint64_t offset;  // within its file
  } part[kMaxParts];
};

// The initial state is all zeros.
struct Group::Control {
  uint64_t key;
  // futex word, incremented by every event that a member may wait for
  alignas(64) std::atomic<uint32_t> signal;
  alignas(64) std::atomic<uint64_t> arrivals;  // at barriers
  // Upper half: phase. Lower half: number of its pieces taken, or done.
  alignas(64) std::atomic<uint64_t> taken;
  alignas(64) std::atomic<uint64_t> done;
  alignas(64) std::atomic<uint32_t> held;
  Member members[kMaxMembers];
};

static_assert(std::atomic<uint64_t>::is_always_lock_free, "atomics must work across processes");

Group::Group() : next_(SharedFile::kAlignment), shared_next_(next_) {
  static_assert(sizeof(Control) <= SharedFile::kAlignment);
  own_page_ = own_.map(0, sizeof(Control));
  std::random_device random;
  auto* control = own_page_.as<Control>();
  control->key = (uint64_t{random()} << 32) | random();
  char place[64];
  std::snprintf(place, sizeof(place), "/%d/%d/%016lx", getpid(), own_.descriptor(), control->key);
  address_ = machine() + place;
}

Group::~Group() = default;

void Group::form(const std::vector<std::string>& addresses, int rank) {
  if (addresses.empty() || addresses.size() > kMaxMembers || rank < 0 ||
      rank >= static_cast<int>(addresses.size()) || addresses[rank] != address_)
    throw Error("ERR_SHARED_MEMORY", "A group needs 1 to ", kMaxMembers, " members, and their addresses");
  members_ = addresses.size();
  const std::string here = machine();
  for (int r = 0; r < static_cast<int>(addresses.size()); ++r) {
    if (r == rank) continue;
    int pid = 0, descriptor = 0;
    uint64_t key = 0;
    if (addresses[r].compare(0, here.size(), here) != 0 ||
        std::sscanf(addresses[r].c_str() + here.size(), "/%d/%d/%lx", &pid, &descriptor, &key) != 3)
      throw Error("ERR_SHARED_MEMORY", "Rank ", r, " is not a process of this machine");
    Buffer page = files_.try_emplace(r, pid, descriptor).first->second.map(0, sizeof(Control));
    // The process may have ended and its pid may belong to another one.
    if (page.as<Control>()->key != key)
      throw Error("ERR_SHARED_MEMORY", "The shared memory of rank ", r, " belongs to another process");
    if (r == 0) control_page_ = std::move(page);
  }
  rank_ = rank;
  control_ = (leads() ? own_page_ : control_page_).as<Control>();
}

// --- waiting

void Group::announce() {
  control().signal.fetch_add(1);
  syscall(SYS_futex, &control().signal, FUTEX_WAKE, INT32_MAX, nullptr, nullptr, 0);
}

template <class Ready>
void Group::wait(Ready ready) {
  for (int i = 0; i < kSpins; ++i) {
    if (ready()) return;
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
  const timespec timeout{0, kCheckNanoseconds};
  for (;;) {
    const uint32_t seen = control().signal.load();
    if (ready()) return;
    if (aborted_) throw Error("ERR_EXCHANGE", "The exchange was closed");
    syscall(SYS_futex, &control().signal, FUTEX_WAIT, seen, &timeout, nullptr, 0);
  }
}

void Group::abort() { aborted_ = true; }

void Group::barrier() {
  const uint64_t arrival = control().arrivals.fetch_add(1) + 1;
  const uint64_t all = (arrival + members_ - 1) / members_ * members_;
  if (arrival == all) announce();
  wait([&] { return control().arrivals.load() >= all; });
}

void Group::hold() { control().held.store(1); }

void Group::release() {
  control().held.store(0);
  announce();
}

void Group::wait_released() {
  wait([&] { return control().held.load() == 0; });
}

// --- memory

namespace {
size_t aligned(size_t bytes) {
  return (bytes + SharedFile::kAlignment - 1) / SharedFile::kAlignment * SharedFile::kAlignment;
}
}  // namespace

Buffer Group::shared(size_t bytes) {
  Buffer own;
  if (leads()) own = allocate(bytes);
  barrier();  // the owner has extended its file
  if (leads()) return own;
  Buffer theirs = files_.at(0).map(shared_next_, bytes);
  shared_next_ += aligned(bytes);
  return theirs;
}

Buffer Group::allocate(size_t bytes) {
  Buffer buffer = own_.map(next_, bytes);
  offsets_[buffer.data()] = next_;
  next_ += aligned(bytes);
  return buffer;
}

// --- sums

void Group::exchange(const std::vector<GradientPart>& own, int64_t total_slots, size_t bytes) {
  const uint64_t exchange = ++exchanges_;
  Member& me = control().members[rank_];
  if (own.size() > kMaxParts) throw Error("ERR_INTERNAL", "Too many parts for the control page");
  me.parts = static_cast<int32_t>(own.size());
  for (size_t i = 0; i < own.size(); ++i) me.part[i] = {own[i].lo, own[i].hi, offsets_.at(own[i].data)};
  me.exchanges.store(exchange);
  announce();

  std::vector<GradientPart> parts;
  for (int r = 0; r < static_cast<int>(members_); ++r) {
    const Member& member = control().members[r];
    wait([&] { return member.exchanges.load() >= exchange; });
    for (int i = 0; i < std::min(member.parts, kMaxParts); ++i) {
      const auto& p = member.part[i];
      parts.push_back({p.lo, p.hi, r == rank_ ? own[i].data : part_of(r, p.offset, bytes)});
    }
  }
  std::sort(parts.begin(), parts.end(), [](const auto& a, const auto& b) { return a.lo < b.lo; });
  data_.clear();
  std::vector<SlotRange> ranges;
  for (const auto& p : parts) {
    data_.push_back(p.data);
    ranges.push_back({p.lo, p.hi});
  }
  additions_ = additions(ranges, {0, total_slots}, total_slots);
}

float* Group::part_of(int rank, uint64_t offset, size_t bytes) {
  Buffer& buffer = mapped_[{rank, offset}];
  if (!buffer) buffer = files_.at(rank).map(offset, bytes);
  return buffer.as<float>();
}

void Group::sum_parts(int64_t from, int64_t to) {
  for (const auto& [into, other] : additions_)
    kernels::cpu().f32.add(data_[into] + from, data_[into] + from, data_[other] + from, to - from);
}

// --- sharing work

bool Group::take(uint64_t phase, int64_t count, int64_t& index) {
  uint64_t now = control().taken.load();
  for (;;) {
    if (now > phase + static_cast<uint64_t>(count) - 1)
      return false;  // all pieces are taken, or a later phase has begun
    const uint64_t next = std::max(now, phase) + 1;
    if (control().taken.compare_exchange_weak(now, next)) {
      index = static_cast<int64_t>(next - phase) - 1;
      return true;
    }
  }
}

void Group::parallel_for(Pool& pool, int64_t count, const std::function<void(int64_t)>& piece) {
  const uint64_t phase = ++phase_ << 32, all = phase + static_cast<uint64_t>(count);
  pool.parallel(pool.threads(), [&](int64_t, int) {
    for (int64_t index = 0; take(phase, count, index);) {
      piece(index);
      uint64_t now = control().done.load();
      while (!control().done.compare_exchange_weak(now, std::max(now, phase) + 1)) {
      }
      if (std::max(now, phase) + 1 == all) announce();
    }
  });
  wait([&] { return control().done.load() >= all; });
}

}  // namespace orch
