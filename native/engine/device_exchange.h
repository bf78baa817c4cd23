// The gradients of several workers' devices as one. Every rank owns a stretch of each piece of the flat
// gradient: it receives the others' parts of it in one group of sends and receives, adds them along the tree
// over slots with the device's own kernel, and an all-gather gives everybody the sum. Who adds is not in the
// result, so the bits are those of one worker. (A library's all-reduce would add in an order of its own.)
//
// Two pieces are under way at a time: while one is added, the next one's parts travel. Every worker makes an
// exchange for a generation; what they offer each other travels with the coordinator's messages.
#pragma once
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../graph/device.h"
#include "../graph/transport.h"
#include "gradient_sums.h"
#include "slot_tree.h"

namespace orch {

class DeviceExchange {
 public:
  /// @param slots of every rank: contiguous and ascending
  /// @param length elements of a gradient
  /// @param scratch_bytes about how much memory of the device may hold received parts
  DeviceExchange(graph::Device& device, int rank, const std::vector<SlotRange>& slots, int64_t length,
                 size_t scratch_bytes = size_t{256} << 20);

  /// What the others must know; see graph::Device. Throws Error(ERR_CUDA).
  std::string offer() const { return device_.offer(rank_ == 0); }
  /// Collective. Returns when all ranks are connected.
  /// @param leader what rank 0 offered
  void connect(const std::string& leader);
  bool connected() const { return transport_ != nullptr; }
  /// Collective. Sums the parts of all ranks into the first of these; the others are overwritten. Returns the
  /// bytes received, when the sum lies there.
  int64_t sum(const std::vector<GradientPart>& own);
  /// From any thread: ends connect() and sum(), now and later, with Error(ERR_EXCHANGE).
  void abort();

  size_t bytes() const { return scratch_[0].bytes() + scratch_[1].bytes(); }

 private:
  /// Rank r's stretch is [at + r * stride, + elements). What does not divide is a last piece of stride 0:
  /// everybody adds all of it, and there is nothing to gather.
  struct Piece {
    int64_t at, stride, elements;
  };
  template <class F>
  void naming_rank(const F& f);  ///< in what it throws
  size_t own_parts() const { return first_[rank_ + 1] - first_[rank_]; }
  void trade(size_t piece, const std::vector<GradientPart>& own);
  void add(size_t piece, const std::vector<GradientPart>& own);
  /// A rank's part of the own stretch, where it lies here.
  float* part(size_t index, size_t piece, const std::vector<GradientPart>& own) const;
  int64_t start(size_t piece) const { return pieces_[piece].at + pieces_[piece].stride * rank_; }

  graph::Device& device_;
  const int rank_;
  const int64_t ranks_;
  std::vector<SlotRange> parts_;  ///< of all ranks, ascending
  std::vector<size_t> first_;     ///< by rank: its first part; at the end, the number of parts
  std::vector<std::pair<size_t, size_t>> additions_;
  std::vector<Piece> pieces_;
  int64_t most_elements_ = 0;  ///< of a stretch
  graph::DeviceMemory scratch_[2];

  std::mutex mutex_;
  bool aborted_ = false;
  std::unique_ptr<graph::Transport> transport_;  // last: it ends before the memory that it writes goes
};

}  // namespace orch
