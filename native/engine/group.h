// Workers of one machine that act as one: they share the model's state, read each other's gradients in place
// (shared memory), and divide the summation and the update among them. No gradient is copied.
//
// Every worker creates a shared-memory file before it joins the run; the addresses travel in the
// coordinator's messages. It allocates its gradients there. In every generation of the run, the members map
// each other's files, and the leader (rank 0) makes a file of control words. The state is in a file of its
// own, which goes from generation to generation as long as one member lives that has it.
//
// All members call the same collective functions in the same order; a call returns when its work is done, by
// whichever members had time. The result of a chunk does not depend on who computed it, so the bits are those
// of one process with all the threads.
//
// Who was a member and is none any more may be stopped, and wake up in the middle of an update. So the others
// do not enter the next generation before it has left by itself, or has been killed.
#pragma once
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../core/pool.h"
#include "../core/shared_file.h"
#include "../optim/undo_log.h"
#include "gradient_sums.h"
#include "shared_state.h"

namespace orch {

/// How long members wait for one who is none any more: to say that it leaves, then to finish what it is in
/// the middle of, such as a copy of the state for a checkpoint. Then they kill it.
struct GroupPatience {
  int leave_ms = 3'000, finish_ms = 30'000;
};

class Group {
 public:
  static constexpr int kMaxMembers = 64;

  /// Throws Error(ERR_SHARED_MEMORY) if the system cannot share memory, or cannot end its users.
  explicit Group(GroupPatience patience = {});
  ~Group();
  /// The address at which other processes of this machine find this one's memory.
  const std::string& address() const { return address_; }

  /// Names the members of a generation by their addresses, of which this is `rank`, and opens their memory;
  /// does not wait for them. Generations increase. May be called from any thread. Throws
  /// Error(ERR_SHARED_MEMORY) if they cannot share memory, and Error(ERR_EXCHANGE) if one has ended.
  void form(const std::vector<std::string>& addresses, int rank, uint64_t generation);
  /// This process leaves the generations that were formed so far: every wait in them, in progress or later,
  /// throws Error(ERR_EXCHANGE). May be called from any thread.
  void abort();

  /// The generation that was formed last; 0: none, or it was entered.
  uint64_t formed();
  /// Collective: enters a generation. Before it returns, nobody who is no member can write into the members'
  /// memory any more. Throws Error(ERR_EXCHANGE), also if another generation was formed meanwhile.
  /// @param undo an array of optim::UndoLog, one for each of this member's threads, allocated here
  void enter(uint64_t generation, const Buffer& undo);
  bool entered() const { return !entered_.empty(); }
  bool leads() const;
  /// Collective: the state that the members share, in so many pieces. If none has one, the leader makes it.
  /// `map` maps its arrays where this process has not yet. Throws Error(ERR_SHARED_MEMORY) if the members
  /// have different ones.
  void share_state(int64_t pieces, const std::function<void(SharedState&)>& map);
  SharedState& state() const { return *state_; }

  /// As long as it lives, others wait before they kill this member for having left. Everything that writes
  /// into the memory of others, or that relies on the state not changing, needs one. Throws
  /// Error(ERR_EXCHANGE) after abort().
  class Presence;
  std::shared_ptr<Presence> presence();

  /// Collective: a barrier. Returns when every member has called it.
  void barrier();
  /// Collective: whether it is true of any member.
  bool any(bool mine);
  /// Allocates memory of this member that the others can read.
  Buffer allocate(size_t bytes);

  /// Collective. Publishes where the local sums, `bytes` each, are, and waits for those of the others.
  void exchange(const std::vector<GradientPart>& own, int64_t total_slots, size_t bytes);
  /// Sums elements [from, to) of all members' parts along the tree, into sum(). Call it once for each
  /// element.
  void sum_parts(int64_t from, int64_t to);
  /// The sum over all members, in the memory of the leader's first part, and which one it is.
  float* sum() const;
  SharedState::Sum sum_id() const;

  /// Collective. Calls piece(i, thread) once for every i in [0, count), each in one of the members that take
  /// part.
  void parallel_for(Pool& pool, int64_t count, const std::function<void(int64_t i, int thread)>& piece,
                    bool takes_part = true);

  /// While the leader holds, which it does to copy the state, wait_released() blocks.
  void hold();
  void release();
  void wait_released();

  /// A sum of this generation, or of those before since settled(); null: it is not known here.
  float* sum_of(const SharedState::Sum& sum) const;
  /// The undo logs of all threads of all members of the same generations.
  std::vector<const optim::UndoLog*> undo_logs() const;
  /// The update of the state is complete: former generations are forgotten.
  void settled();

 private:
  struct Member;
  struct Control;
  struct Header;
  struct Formation;
  Formation& now() const { return *entered_.back(); }
  Control& control() const;
  template <class Ready>
  void wait(Ready ready);
  bool take(uint64_t phase, int64_t count, int64_t& index);
  float* part_of(int rank, uint64_t offset, size_t bytes);
  void await_control(Formation& formation);
  void expel_others(const Formation& formation);

  const GroupPatience patience_;
  SharedFile own_;
  Buffer own_page_;
  std::string address_;
  size_t next_ = SharedFile::kAlignment;     // first free byte of the own file
  std::map<const void*, uint64_t> offsets_;  // offsets of what was allocated

  std::mutex mutex_;                   // guards the pointers to formations against other threads
  std::shared_ptr<Formation> formed_;  // to be entered
  std::vector<std::shared_ptr<Formation>>
      entered_;  // since the state was settled; the last is the current one
  std::shared_ptr<Presence> holding_;
  std::unique_ptr<SharedState> state_;
};

}  // namespace orch
