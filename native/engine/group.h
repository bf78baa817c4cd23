// Workers of one machine as one: they share the model's state, read each other's gradients where these lie,
// and share out the summing and the update between them. What travels is work, not data.
//
// Every member makes a file of shared memory before it joins the run; the addresses travel with the
// coordinator's messages. The first member's file also holds the control words and the state. All members
// call the same collective functions (marked so) in the same order; a call returns when its work is done by
// whoever had time. A chunk's result does not depend on who computed it, so the bits are those of one process
// with all the threads.
#pragma once
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "../core/pool.h"
#include "../core/shared_file.h"
#include "gradient_sums.h"

namespace orch {

class Group {
 public:
  static constexpr int kMaxMembers = 64;

  Group();
  ~Group();
  /// What other processes of this machine need to find this one's memory.
  const std::string& address() const { return address_; }

  /// Takes place `rank` among the members at these addresses. Maps their memory; waits for nobody.
  /// Throws Error(ERR_SHARED_MEMORY).
  void form(const std::vector<std::string>& addresses, int rank);
  /// Ends every wait, now and later, with Error(ERR_EXCHANGE). From any thread.
  void abort();

  bool formed() const { return control_ != nullptr; }
  bool leads() const { return rank_ == 0; }
  /// Collective. Returns when every member has called it.
  void meet();
  /// Collective. Memory that all members share; zeroed.
  Buffer shared(size_t bytes);
  /// Memory of this member that the others may read.
  Buffer allocate(size_t bytes);

  /// Collective. Tells the others where the local sums, of `bytes` each, lie, and waits for theirs.
  void exchange(const std::vector<GradientPart>& own, int64_t total_slots, size_t bytes);
  /// Sums elements [from, to) of all members' parts along the tree, into sum(). Of each element once.
  void add_up(int64_t from, int64_t to);
  /// The sum over all members: memory of the leader's first part.
  float* sum() const { return data_.empty() ? nullptr : data_.front(); }

  /// Collective. Calls piece(i) once for every i < count, each in one of the members.
  void share_out(Pool& pool, int64_t count, const std::function<void(int64_t)>& piece);

  /// While the leader holds, nobody gets past let_go(): it copies the state.
  void hold();
  void release();
  void wait_released();

 private:
  struct Member;
  struct Control;
  Control& control() const { return *control_; }
  template <class Ready>
  void wait(Ready ready);
  void announce();
  bool take(uint64_t phase, int64_t count, int64_t& index);
  float* part_of(int rank, uint64_t offset, size_t bytes);

  SharedFile own_;
  Buffer own_page_;
  std::string address_;
  size_t next_, shared_next_;                // first free byte of the own and of the leader's file
  std::map<const void*, uint64_t> offsets_;  // of what was allocated

  int rank_ = -1;
  std::vector<SharedFile> files_;  // by rank; the own one's place is empty
  Buffer control_page_;            // of the leader, where that is another process
  Control* control_ = nullptr;
  std::map<std::pair<int, uint64_t>, Buffer> mapped_;

  uint64_t phase_ = 0, exchanges_ = 0;
  std::vector<float*> data_;                          // parts of all members, ascending
  std::vector<std::pair<size_t, size_t>> additions_;  // along the tree: into, from
  std::atomic<bool> aborted_{false};
};

}  // namespace orch
