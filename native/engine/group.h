// Workers of one machine that act as one: they share the model's state, read each other's gradients in place
// (shared memory), and divide the summation and the update among them. No gradient is copied.
//
// Every member creates a shared-memory file before it joins the run; the addresses travel in the
// coordinator's messages. The first member's file also holds the control words and the state. All members
// call the same collective functions in the same order; a call returns when its work is done, by whichever
// members had time. The result of a chunk does not depend on who computed it, so the bits are those of one
// process with all the threads.
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
  /// The address at which other processes of this machine find this one's memory.
  const std::string& address() const { return address_; }

  /// Joins as `rank` of the members at these addresses and maps their memory; does not wait for them. Throws
  /// Error(ERR_SHARED_MEMORY).
  void form(const std::vector<std::string>& addresses, int rank);
  /// Makes every wait, in progress or later, throw Error(ERR_EXCHANGE). May be called from any thread.
  void abort();

  bool formed() const { return control_ != nullptr; }
  bool leads() const { return rank_ == 0; }
  /// Collective: a barrier. Returns when every member has called it.
  void barrier();
  /// Collective. Allocates zeroed memory that all members share.
  Buffer shared(size_t bytes);
  /// Allocates memory of this member that the others can read.
  Buffer allocate(size_t bytes);

  /// Collective. Publishes where the local sums, `bytes` each, are, and waits for those of the others.
  void exchange(const std::vector<GradientPart>& own, int64_t total_slots, size_t bytes);
  /// Sums elements [from, to) of all members' parts along the tree, into sum(). Call it once for each
  /// element.
  void sum_parts(int64_t from, int64_t to);
  /// The sum over all members, in the memory of the leader's first part.
  float* sum() const { return data_.empty() ? nullptr : data_.front(); }

  /// Collective. Calls piece(i) once for every i in [0, count), each in one of the members.
  void parallel_for(Pool& pool, int64_t count, const std::function<void(int64_t)>& piece);

  /// While the leader holds, which it does to copy the state, wait_released() blocks.
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
  size_t next_, shared_next_;                // first free byte of this member's and of the leader's file
  std::map<const void*, uint64_t> offsets_;  // offsets of what was allocated

  int rank_ = -1;
  size_t members_ = 0;
  std::map<int, SharedFile> files_;  // of the other members, by rank
  Buffer control_page_;              // the leader's, if that is another process
  Control* control_ = nullptr;
  std::map<std::pair<int, uint64_t>, Buffer> mapped_;

  uint64_t phase_ = 0, exchanges_ = 0;
  std::vector<float*> data_;                          // parts of all members, ascending
  std::vector<std::pair<size_t, size_t>> additions_;  // along the tree: (into, from)
  std::atomic<bool> aborted_{false};
};

}  // namespace orch
