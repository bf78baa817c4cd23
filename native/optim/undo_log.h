// What lets another process finish the update of a piece of a shared state whose thread was killed. Before a
// vector of elements is changed, its former values and its place are noted.
//
// SIGKILL ends a thread between two instructions, and what it has stored by then is in memory. So it suffices
// that the compiler keeps the order of stores: std::atomic_signal_fence, which costs nothing.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <vector>

namespace orch::optim {

/// The log of one thread, in shared memory, zeroed at first.
class alignas(64) UndoLog {
 public:
  /// Arrays of a state, elements of a vector.
  static constexpr size_t kMostArrays = 8, kMostLanes = 16;

  /// The thread begins to update a piece at this step, from this element on.
  void claim(uint32_t step, uint32_t piece, int64_t from) {
    put(claim_, 0);
    from_ = from;
    put(place_, -1);
    put(claim_, int64_t{step} << 32 | piece);
  }
  void clear() { put(claim_, 0); }

  /// The former values of a vector, whose place is then told by begin(). Vectors of one piece alternate
  /// between two places here, so that the last one is kept until the next one is complete.
  float* former(int64_t vector, size_t array) { return former_[vector & 1][array]; }
  /// The vector may be changed in part from now on. `at`: its first element, counted from where the update
  /// began.
  void begin(int64_t vector, int64_t at) { put(place_, at << 1 | (vector & 1)); }

  bool is_of(uint32_t step, uint32_t piece) const { return claim_.load() == (int64_t{step} << 32 | piece); }
  /// The first element of the piece that is perhaps not updated.
  int64_t reached() const { return from_ + std::max<int64_t>(0, place_ >> 1); }
  /// Restores the vector there, if the owner, which has ended, may have changed it in part. It may be
  /// interrupted, and repeated.
  /// @param n elements of the piece
  /// @param arrays that are updated, in the order of former()
  void undo(int64_t n, const std::vector<float*>& arrays) const {
    if (place_ < 0) return;
    const int64_t at = reached();
    const auto bytes = static_cast<size_t>(std::min<int64_t>(lanes_, n - at)) * sizeof(float);
    for (size_t a = 0; a < arrays.size(); ++a) std::memcpy(arrays[a] + at, former_[place_ & 1][a], bytes);
  }
  /// Elements of a vector, before the first begin().
  void set_lanes(int64_t lanes) { lanes_ = lanes; }

 private:
  static void put(std::atomic<int64_t>& word, int64_t value) {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    word.store(value, std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }

  std::atomic<int64_t> claim_;  // upper half: step; lower half: piece. 0: none
  std::atomic<int64_t> place_;  // lowest bit: where the former values are. -1: nothing is changed yet
  int64_t from_, lanes_;
  alignas(64) float former_[2][kMostArrays][kMostLanes];
};

}  // namespace orch::optim
