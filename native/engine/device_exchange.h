// All-reduce of gradients between the devices of several workers. Every rank owns a range of each piece of
// the flat gradient: it receives the other ranks' parts of that range with one grouped send/recv, adds them
// along the tree over slots with the device's own kernel (a reduce-scatter), and an all-gather distributes
// the sums. The result does not depend on which rank adds, so its bits are those of one worker. (A library's
// all-reduce would add in an order of its own.)
//
// All of it is on the transport's stream, for which the compute stream waits only when the sum is complete.
// So a piece can be exchanged as soon as the gradients in it are final, while the backward pass computes the
// others. When a rank begins a piece is its own affair: all make the same calls in the same order, and no
// rank waits for a later piece than that whose gradients it has. Every worker creates an exchange for each
// generation; the rendezvous strings travel in the coordinator's messages.
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
  /// @param slots slots of every rank, contiguous and ascending
  /// @param buckets of a gradient, in the order in which they become final; a piece begins and ends in one,
  /// or begins with the last elements of those before it
  /// @param scratch_bytes approximate device memory for received parts
  DeviceExchange(graph::Device& device, int rank, const std::vector<SlotRange>& slots,
                 const std::vector<Bucket>& buckets, size_t scratch_bytes = size_t{256} << 20);

  /// The rendezvous string that the other ranks need; see graph::Device. Throws Error(ERR_CUDA).
  std::string rendezvous() const { return device_.rendezvous(rank_ == 0); }
  /// Collective. Returns when all ranks are connected. Throws Error(ERR_EXCHANGE).
  /// @param leader rendezvous string of rank 0
  void connect(const std::string& leader);
  bool connected() const { return transport_ != nullptr; }
  /// Whether these slots, of so many, are this rank's.
  bool covers(const SlotRange& slots, int64_t total) const;
  /// Starts to sum the pieces that end at or before element `until`: up to there, the work now on the compute
  /// stream makes `own` final, and nothing may read or write it any more until sum(), which must follow. Does
  /// not wait for the transfers. Throws Error(ERR_EXCHANGE).
  void advance(const std::vector<GradientPart>& own, int64_t until);
  /// Whether advance() has started a piece, and sum() has not followed.
  bool is_started() const { return next_ > 0; }
  /// Collective. Sums the parts of all ranks into the first of `own` and overwrites the others: what
  /// advance() has not started, too. Returns the number of bytes received, when the sum is complete. Throws
  /// Error(ERR_EXCHANGE).
  int64_t sum(const std::vector<GradientPart>& own);
  /// Makes connect(), advance() and sum(), in progress or later, throw Error(ERR_EXCHANGE). May be called
  /// from any thread.
  void abort();

  size_t bytes() const { return scratch_.bytes(); }

 private:
  /// Rank r's range is [at + r * stride, + elements). The remainder that does not divide evenly is a last
  /// piece of stride 0: every rank adds all of it, and no all-gather is needed.
  struct Piece {
    int64_t at, stride, elements;
  };
  template <class F>
  void naming_rank(const F& f);  ///< adds the rank to what f throws
  size_t own_parts() const { return first_[rank_ + 1] - first_[rank_]; }
  void exchange(const Piece& piece, const std::vector<GradientPart>& own);
  /// A rank's part of this rank's own range, in this device's memory.
  float* part(size_t index, const Piece& piece, const std::vector<GradientPart>& own) const;
  int64_t start(const Piece& p) const { return p.at + p.stride * rank_; }
  int64_t end(const Piece& p) const { return p.at + p.stride * (ranks_ - 1) + p.elements; }

  graph::Device& device_;
  const int rank_;
  const int64_t ranks_;
  std::vector<SlotRange> parts_;  ///< of all ranks, ascending
  std::vector<size_t> first_;     ///< first part of each rank; at the end, the number of parts
  std::vector<std::pair<size_t, size_t>> additions_;
  std::vector<Piece> pieces_;
  size_t next_ = 0;            ///< the first piece of this step that is not started
  int64_t most_elements_ = 0;  ///< the largest range
  Buffer scratch_;

  std::mutex mutex_;
  bool aborted_ = false;
  // last: it must end before the memory that it writes is freed
  std::unique_ptr<graph::Transport> transport_;
};

}  // namespace orch
