// The generations of a group: who is in them, how they are entered, and what outlives them.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <random>

#include "../core/clock.h"
#include "../core/watchdog.h"
#include "formation.h"

namespace orch {
namespace {

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

}  // namespace

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
    if (formation.control.load() == nullptr) return;
    formation.me().left = 1;
    formation.announce();
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
  const InStage now_at(Stage::Wait);
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

void Group::share_state(int64_t pieces, const std::function<void(SharedState&)>& map) {
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
  if (from == count) {
    from = 0;
    if (leads()) take(std::make_unique<SharedState>(pieces));
  }
  barrier();
  const Header& theirs = now().header(from);
  if (!state_) take(std::make_unique<SharedState>(pieces, now().peers[from].pid, theirs.state));
  if (state_->key() != theirs.state_key)
    throw Error("ERR_SHARED_MEMORY", "Rank ", from, " shares another state than this worker has");
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

}  // namespace orch
