// Local sums of slot gradients along the tree over slots (slot_tree.h), in the memory of a device.
#pragma once
#include <functional>
#include <map>
#include <mutex>
#include <vector>

#include "../graph/device.h"
#include "../model/model.h"
#include "slot_tree.h"

namespace orch {

/// The sum over a maximal subtree, slots [lo, hi), of the local slots.
struct GradientPart {
  int64_t lo, hi;
  float* data;
};

class GradientSums {
 public:
  GradientSums(graph::Device& device, int64_t length, std::vector<Bucket> buckets)
      : device_(device),
        length_(length),
        buckets_(std::move(buckets)),
        allocate_([&device](size_t bytes) { return device.allocate(bytes); }) {}

  /// Sets the allocator of buffers, for memory that other processes can read. Call it before the first
  /// acquire().
  void allocate_with(std::function<Buffer(size_t)> allocate) { allocate_ = std::move(allocate); }
  /// Sets the buckets, each complete()d by itself. Before begin().
  void divide(const std::vector<Bucket>& buckets) { buckets_ = buckets; }
  /// Starts the sums of slots [first, end) out of `total`. Parts of the previous round become invalid.
  /// `announce` is called with each bucket, in order, once all parts are complete in it, by the thread that
  /// completed it.
  void begin(int64_t first, int64_t end, int64_t total, std::function<void(int)> announce);
  /// A buffer for one slot's gradient.
  float* acquire();
  /// Reports that the slot's gradient of a bucket is complete in its buffer, on a device in the order of the
  /// stream. Thread-safe.
  void complete(int64_t slot, float* buffer, int bucket);
  int buckets() const { return static_cast<int>(buckets_.size()); }
  /// The sums, ascending; valid after all slots are complete. On the driver thread.
  const std::vector<GradientPart>& parts() const { return parts_; }
  /// The same from another thread, as they are now; data is null before a part's first bucket is complete.
  std::vector<GradientPart> parts_now();
  /// The step failed: there are no sums.
  void abandon();
  int64_t total_slots() const { return total_; }

 private:
  void part_done(int64_t lo, float* buffer, int bucket);

  graph::Device& device_;
  const int64_t length_;
  std::vector<Bucket> buckets_;
  std::mutex mutex_, announcing_;
  int64_t first_ = 0, total_ = 0;
  std::vector<std::pair<size_t, size_t>> additions_;  // of slots, counted from the first
  std::function<void(int)> announce_;
  std::function<Buffer(size_t)> allocate_;
  std::vector<Buffer> memory_;
  std::vector<float*> free_;
  // by buffer: number of its buckets that were added into another
  std::map<float*, size_t> released_;
  std::map<std::pair<size_t, int>, float*> waiting_;  // by addition and bucket: the operand that came first
  std::vector<GradientPart> parts_;
  std::vector<size_t> parts_done_;  // by bucket
  size_t announced_ = 0;
};

}  // namespace orch
