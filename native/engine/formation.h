// What one member of a group knows of a generation, and what the members share of it.
#pragma once
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../core/error.h"
#include "../core/process.h"
#include "group.h"

namespace orch {

constexpr int kMaxParts = 128;  // of sums, per member: two for each level of the tree

inline Error aborted() { return Error("ERR_EXCHANGE", "The exchange was closed"); }

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

}  // namespace orch
