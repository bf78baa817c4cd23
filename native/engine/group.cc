// What the members of a group do together: waiting, sums, and sharing work.
#include <algorithm>
#include <ctime>

#include "../core/watchdog.h"
#include "../kernels/kernels.h"
#include "formation.h"

namespace orch {
namespace {

constexpr int kSpins = 2000;                    // about 20 us; a sleep and a wake-up cost as much
constexpr long kCheckNanoseconds = 50'000'000;  // between two checks whether the group was aborted

}  // namespace

// --- waiting

template <class Ready>
void Group::wait(Ready ready) {
  for (int i = 0; i < kSpins; ++i) {
    if (ready()) return;
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
  const InStage now_at(Stage::Wait);
  const timespec timeout{0, kCheckNanoseconds};
  for (;;) {
    const uint32_t seen = control().signal.load();
    if (ready()) return;
    if (now().aborted) throw aborted();
    syscall(SYS_futex, &control().signal, FUTEX_WAIT, seen, &timeout, nullptr, 0);
  }
}

void Group::barrier() {
  const uint64_t arrival = control().arrivals.fetch_add(1) + 1, members = now().members();
  const uint64_t all = (arrival + members - 1) / members * members;
  if (arrival == all) now().announce();
  wait([&] { return control().arrivals.load() >= all; });
}

bool Group::any(bool mine) {
  now().me().answer = mine ? 1 : 0;
  barrier();
  bool found = false;
  for (int r = 0; r < static_cast<int>(now().members()); ++r) found |= now().member(r).answer != 0;
  return found;
}

void Group::hold() {
  holding_ = presence();
  control().held.store(1);
}

void Group::release() {
  const Formation& formation = holding_->formation();
  formation.control.load()->held.store(0);
  formation.announce();
  holding_ = nullptr;
}

void Group::wait_released() {
  wait([&] { return control().held.load() == 0; });
}

// --- memory

Buffer Group::allocate(size_t bytes) {
  Buffer buffer = own_.map(next_, bytes);
  offsets_[buffer.data()] = next_;
  next_ += SharedFile::aligned(bytes);
  return buffer;
}

// --- sums

void Group::exchange(const std::vector<GradientPart>& own, int64_t total_slots, size_t bytes) {
  Formation& f = now();
  const uint64_t exchange = ++f.exchanges;
  if (own.size() > kMaxParts) throw Error("ERR_INTERNAL", "Too many parts for the control page");
  f.me().parts = static_cast<int32_t>(own.size());
  for (size_t i = 0; i < own.size(); ++i) f.me().part[i] = {own[i].lo, own[i].hi, offsets_.at(own[i].data)};
  f.me().exchanges.store(exchange);
  f.announce();

  std::vector<GradientPart> parts;
  for (int r = 0; r < static_cast<int>(f.members()); ++r) {
    const Member& member = f.member(r);
    wait([&] { return member.exchanges.load() >= exchange; });
    for (int i = 0; i < std::min(member.parts, kMaxParts); ++i) {
      const auto& p = member.part[i];
      parts.push_back({p.lo, p.hi, r == f.rank ? own[i].data : part_of(r, p.offset, bytes)});
    }
  }
  std::sort(parts.begin(), parts.end(), [](const auto& a, const auto& b) { return a.lo < b.lo; });
  f.data.clear();
  std::vector<SlotRange> ranges;
  for (const auto& p : parts) {
    f.data.push_back(p.data);
    ranges.push_back({p.lo, p.hi});
  }
  f.additions = additions(ranges, {0, total_slots}, total_slots);
  f.summed = exchange;
}

float* Group::part_of(int rank, uint64_t offset, size_t bytes) {
  Buffer& buffer = now().mapped[{rank, offset}];
  if (!buffer) buffer = now().peers[rank].file->map(offset, bytes);
  return buffer.as<float>();
}

void Group::sum_parts(int64_t from, int64_t to) {
  const auto& data = now().data;
  for (const auto& [into, other] : now().additions)
    kernels::cpu().f32.add(data[into] + from, data[into] + from, data[other] + from, to - from);
}

float* Group::sum() const { return now().data.empty() ? nullptr : now().data.front(); }

SharedState::Sum Group::sum_id() const { return {control().key, now().summed}; }

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

void Group::parallel_for(Pool& pool, int64_t count, const std::function<void(int64_t, int)>& piece,
                         bool takes_part) {
  const uint64_t phase = ++now().phase << 32, all = phase + static_cast<uint64_t>(count);
  const auto share = [&](int64_t, int thread) {
    for (int64_t index = 0; take(phase, count, index);) {
      piece(index, thread);
      tick();
      uint64_t now = control().done.load();
      while (!control().done.compare_exchange_weak(now, std::max(now, phase) + 1)) {
      }
      if (std::max(now, phase) + 1 == all) this->now().announce();
    }
  };
  if (takes_part) pool.parallel(pool.threads(), share);
  wait([&] { return control().done.load() >= all; });
}

}  // namespace orch
