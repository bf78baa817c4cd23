// What lets others finish the update of a piece whose thread was killed: before a block of the piece is changed,
// its former values are copied, and a claim says which block that is.
//
// SIGKILL ends a thread between two instructions, and what it has stored by then is in memory. So it suffices
// that the compiler keeps the order of stores; no fence of the processor is needed.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <vector>

#include "../core/memory.h"

namespace orch {

class UndoLog {
 public:
  /// Elements of a block. Those of all arrays and their copies fit into the first-level cache, where the copy
  /// costs little.
  static constexpr int64_t kBlock = 1024;
  /// The most elements of a piece, and the most pieces.
  static constexpr int64_t kPiece = 64 * kBlock, kPieces = 1 << 24;

  /// A block that a thread is about to change, or (`writing`) may have changed in part.
  struct Claim {
    uint32_t step;
    int64_t piece, block;
    bool writing;
  };

  UndoLog() = default;
  /// @param memory one log for each thread, for a state of so many arrays; zeroed at first
  UndoLog(const Buffer& memory, size_t arrays)
      : memory_(memory.as<char>()), arrays_(arrays), threads_(memory.bytes() / bytes(arrays)) {}
  /// Bytes of the log of one thread.
  static size_t bytes(size_t arrays) { return kClaimBytes + arrays * kCopyBytes; }

  int threads() const { return static_cast<int>(threads_); }

  /// Updates a piece of n elements from a block on: apply(at, count) changes elements [at, at + count) of the
  /// arrays, which begin at the piece.
  template <class Apply>
  void update(int thread, uint32_t step, int64_t piece, int64_t block, int64_t n,
              const std::vector<float*>& arrays, const Apply& apply) {
    for (; block * kBlock < n; ++block) {
      const int64_t at = block * kBlock, count = std::min(kBlock, n - at);
      put(thread, {step, piece, block, false});
      for (size_t a = 0; a < arrays.size(); ++a)
        std::memcpy(copy(thread, a), arrays[a] + at, static_cast<size_t>(count) * sizeof(float));
      put(thread, {step, piece, block, true});
      apply(at, count);
    }
    // The stores of the last block come before whatever says that the piece is complete.
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }

  /// Forgets the claims.
  void clear() {
    for (int t = 0; t < threads(); ++t) word(t).store(0);
  }

  Claim claim(int thread) const {
    const uint64_t word = this->word(thread).load();
    return {static_cast<uint32_t>(word >> 32), static_cast<int64_t>(word >> 8 & (kPieces - 1)),
            static_cast<int64_t>(word >> 1 & 127), (word & 1) != 0};
  }

  /// Undoes what the owner of a claim, which has ended, may have changed. May be interrupted and repeated.
  void undo(int thread, int64_t n, const std::vector<float*>& arrays) {
    Claim claimed = claim(thread);
    if (!claimed.writing) return;
    const int64_t at = claimed.block * kBlock, count = std::min(kBlock, n - at);
    for (size_t a = 0; a < arrays.size(); ++a)
      std::memcpy(arrays[a] + at, copy(thread, a), static_cast<size_t>(count) * sizeof(float));
    claimed.writing = false;
    put(thread, claimed);
  }

 private:
  // Copies begin at different offsets of a page than the arrays, whose lines would else evict each other.
  static constexpr size_t kClaimBytes = 320, kCopyBytes = kBlock * sizeof(float) + 256;

  std::atomic<uint64_t>& word(int thread) const {
    return *reinterpret_cast<std::atomic<uint64_t>*>(memory_ + static_cast<size_t>(thread) * bytes(arrays_));
  }
  float* copy(int thread, size_t array) const {
    return reinterpret_cast<float*>(memory_ + static_cast<size_t>(thread) * bytes(arrays_) + kClaimBytes +
                                    array * kCopyBytes);
  }
  void put(int thread, const Claim& c) {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    word(thread).store(uint64_t{c.step} << 32 | static_cast<uint64_t>(c.piece) << 8 |
                           static_cast<uint64_t>(c.block) << 1 | (c.writing ? 1 : 0),
                       std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }

  char* memory_ = nullptr;
  size_t arrays_ = 0, threads_ = 0;
};

}  // namespace orch
