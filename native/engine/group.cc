#include "group.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <random>

#include "../core/clock.h"
#include "../core/error.h"
#include "../core/process.h"
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

uint64_t random_key() {
  std::random_device random;
  return (uint64_t{random()} << 32) | random();
}

Error aborted() { return Error("ERR_EXCHANGE", "The exchange was closed"); }

}  // namespace

/// The first page of every member's file.
struct Group::Header {
  uint64_t key;
  std::atomic<uint64_t> generation;  // the last one that it leads
  std::atomic<int> control, state;   // descriptors of that one's control words, and of the state; 0: none
  std::atomic<uint64_t> state_key;
};

struct Group::Member {
  alignas(64) std::atomic<uint64_t> exchanges;  // number of exchanges for which its parts are complete
  std::atomic<uint32_t> present, left;          // see Presence
  std::atomic<uint32_t> answer;                 // to any()
  uint64_t undo, undo_bytes;                    // its undo logs, within its file
  int32_t parts;
  struct {
    int64_t lo, hi;
    uint64_t offset;  // within its file
  } part[kMaxParts];
};

// The initial state is all zeros.
struct Group::Control {
  uint64_t key, generation;
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

/// A process of a generation.
struct Peer {
  int pid;
  std::unique_ptr<Process> process;  // null: this one
  std::unique_ptr<SharedFile> file;
  Buffer page;  // its Header
};

/// One generation, as this member sees it.
struct Group::Formation {
  uint64_t generation;
  int rank;
  std::vector<std::string> addresses;
  std::vector<Peer> peers;  // by rank
  std::unique_ptr<SharedFile> control_file;
  Buffer control_page;
  std::atomic<Control*> control{nullptr};  // null: not entered yet
  std::atomic<bool> aborted{false};

  uint64_t phase = 0, exchanges = 0;
  std::map<std::pair<int, uint64_t>, Buffer> mapped;
  std::vector<float*> data;                          // parts of all members, ascending
  std::vector<std::pair<size_t, size_t>> additions;  // along the tree: (into, from)
  uint64_t summed = 0;                               // the exchange of which these are
  std::vector<Buffer> undo;                          // by rank

  size_t members() const { return addresses.size(); }
  Header& header(int r) const { return *peers[r].page.as<Header>(); }
  Member& member(int r) const { return control.load()->members[r]; }
  Member& me() const { return member(rank); }
  void announce() const {
    std::atomic<uint32_t>& signal = control.load()->signal;
    signal.fetch_add(1);
    syscall(SYS_futex, &signal, FUTEX_WAKE, INT32_MAX, nullptr, nullptr, 0);
  }
};

class Group::Presence {
 public:
  explicit Presence(std::shared_ptr<Formation> formation) : formation_(std::move(formation)) {
    // abort() sets the flag, and then says that this member leaves: whoever has read that, and then finds
    // nobody present, finds nobody later.
    formation_->me().present.fetch_add(1);
    if (!formation_->aborted) return;
    formation_->me().present.fetch_sub(1);
    throw aborted();
  }
  ~Presence() { formation_->me().present.fetch_sub(1); }
  Presence(const Presence&) = delete;
  const Formation& formation() const { return *formation_; }

 private:
  const std::shared_ptr<Formation> formation_;
};

std::shared_ptr<Group::Presence> Group::presence() { return std::make_shared<Presence>(entered_.back()); }

Group::Group(GroupPatience patience) : patience_(patience) {
  static_assert(sizeof(Header) <= SharedFile::kAlignment);
  const Process probe(getpid());
  own_page_ = own_.map(0, sizeof(Header));
  auto* header = own_page_.as<Header>();
  header->key = random_key();
  char place[64];
  std::snprintf(place, sizeof(place), "/%d/%d/%016lx", getpid(), own_.descriptor(), header->key);
  address_ = machine() + place;
}

Group::~Group() = default;

// --- generations

void Group::form(const std::vector<std::string>& addresses, int rank, uint64_t generation) {
  if (addresses.empty() || addresses.size() > kMaxMembers || rank < 0 ||
      rank >= static_cast<int>(addresses.size()) || addresses[rank] != address_ || generation == 0)
    throw Error("ERR_SHARED_MEMORY", "A group needs 1 to ", kMaxMembers,
                " members, their addresses, and a number");
  auto formation = std::make_shared<Formation>();
  formation->generation = generation;
  formation->rank = rank;
  formation->addresses = addresses;
  const std::string here = machine();
  for (int r = 0; r < static_cast<int>(addresses.size()); ++r) {
    Peer& peer = formation->peers.emplace_back();
    int descriptor = 0;
    uint64_t key = 0;
    if (addresses[r].compare(0, here.size(), here) != 0 ||
        std::sscanf(addresses[r].c_str() + here.size(), "/%d/%d/%lx", &peer.pid, &descriptor, &key) != 3)
      throw Error("ERR_SHARED_MEMORY", "Rank ", r, " is not a process of this machine");
    // The key is read after the process is held: so it is of the process that is held.
    if (r != rank) peer.process = std::make_unique<Process>(peer.pid);
    peer.file = std::make_unique<SharedFile>(peer.pid, descriptor);
    peer.page = peer.file->map(0, sizeof(Header));
    if (formation->header(r).key != key)
      throw Error("ERR_EXCHANGE", "The process of rank ", r,
                  " has ended, and its number belongs to another one");
  }
  std::lock_guard lock(mutex_);
  formed_ = std::move(formation);
}

void Group::abort() {
  std::lock_guard lock(mutex_);
  const auto leave = [](Formation& formation) {
    formation.aborted = true;
    if (formation.control.load() != nullptr) formation.me().left = 1;
  };
  if (formed_) leave(*formed_);
  for (const auto& formation : entered_) leave(*formation);
}

bool Group::leads() const { return now().rank == 0; }

Group::Control& Group::control() const { return *now().control.load(); }

uint64_t Group::formed() {
  std::lock_guard lock(mutex_);
  return formed_ ? formed_->generation : 0;
}

void Group::enter(uint64_t generation, const Buffer& undo) {
  std::shared_ptr<Formation> formation;
  {
    std::lock_guard lock(mutex_);
    formation = formed_;
  }
  if (generation == 0) throw Error("ERR_SHARED_MEMORY", "The group is not formed yet");
  if (!formation || formation->generation != generation) throw aborted();
  await_control(*formation);
  {
    std::lock_guard lock(mutex_);
    entered_.push_back(formation);
    if (formed_ == formation) formed_ = nullptr;
    if (formation->aborted) formation->me().left = 1;
  }
  expel_others(*formation);
  const size_t logs = undo.bytes() / sizeof(optim::UndoLog);
  for (size_t i = 0; i < logs; ++i) undo.as<optim::UndoLog>()[i].clear();
  formation->me().undo = offsets_.at(undo.data());
  formation->me().undo_bytes = undo.bytes();
  barrier();
  for (int r = 0; r < static_cast<int>(formation->members()); ++r) {
    const Member& member = formation->member(r);
    formation->undo.push_back(formation->peers[r].file->map(member.undo, member.undo_bytes));
  }
}

/// The leader makes the control words of the generation, and the others wait for them.
void Group::await_control(Formation& formation) {
  Header& leader = formation.header(0);
  if (formation.rank == 0) {
    formation.control_file = std::make_unique<SharedFile>();
    formation.control_page = formation.control_file->map(0, sizeof(Control));
    formation.control = formation.control_page.as<Control>();
    formation.control.load()->key = random_key();
    formation.control.load()->generation = formation.generation;
    leader.control = formation.control_file->descriptor();
    leader.generation = formation.generation;
    return;
  }
  const Peer& peer = formation.peers[0];
  while (leader.generation < formation.generation) {
    if (formation.aborted || peer.process->has_ended(1)) throw aborted();
  }
  formation.control_file = std::make_unique<SharedFile>(peer.pid, leader.control);
  formation.control_page = formation.control_file->map(0, sizeof(Control));
  // The leader may have come to a later generation meanwhile.
  if (formation.control_page.as<Control>()->generation != formation.generation) throw aborted();
  formation.control = formation.control_page.as<Control>();
}

void Group::expel_others(const Formation& formation) {
  for (const auto& former : entered_) {
    for (int r = 0; r < static_cast<int>(former->members()); ++r) {
      const auto& members = formation.addresses;
      if (std::find(members.begin(), members.end(), former->addresses[r]) != members.end()) continue;
      const Member& member = former->member(r);
      const Process& process = *former->peers[r].process;
      const double start = seconds_now();
      while (!process.has_ended(1)) {
        const bool leaves = member.left != 0;
        if (leaves && member.present == 0) break;
        const int most = leaves ? patience_.finish_ms : patience_.leave_ms;
        if (seconds_now() - start > most * 1e-3) process.kill();
        if (formation.aborted) throw aborted();
      }
    }
  }
}

bool Group::share_state(int64_t pieces, const std::function<void(SharedState&)>& map) {
  const auto take = [&](std::unique_ptr<SharedState> state) {
    map(*state);
    state_ = std::move(state);
    Header& own = *own_page_.as<Header>();
    own.state_key = state_->key();
    own.state = state_->descriptor();
  };
  const auto count = static_cast<int>(now().members());
  int from = 0;
  while (from < count && now().header(from).state == 0) ++from;
  const bool fresh = from == count;
  if (fresh) {
    from = 0;
    if (leads()) take(std::make_unique<SharedState>(pieces));
  }
  barrier();
  const Header& theirs = now().header(from);
  if (!state_) take(std::make_unique<SharedState>(pieces, now().peers[from].pid, theirs.state));
  if (state_->key() != theirs.state_key)
    throw Error("ERR_SHARED_MEMORY", "Rank ", from, " shares another state than this worker has");
  return fresh;
}

void Group::settled() {
  std::lock_guard lock(mutex_);
  entered_.erase(entered_.begin(), entered_.end() - 1);
}

float* Group::sum_of(const SharedState::Sum& sum) const {
  for (const auto& formation : entered_)
    if (SharedState::Sum{formation->control.load()->key, formation->summed} == sum)
      return formation->data.front();
  return nullptr;
}

std::vector<const optim::UndoLog*> Group::undo_logs() const {
  std::vector<const optim::UndoLog*> logs;
  for (const auto& formation : entered_)
    for (const Buffer& undo : formation->undo)
      for (size_t i = 0; i < undo.bytes() / sizeof(optim::UndoLog); ++i)
        logs.push_back(undo.as<optim::UndoLog>() + i);
  return logs;
}

// --- waiting

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
