// Local sums of slot gradients along the tree over slots (slot_tree.h).
#pragma once
#include <functional>
#include <map>
#include <mutex>
#include <vector>

#include "../core/memory.h"
#include "../model/mmdit.h"
#include "slot_tree.h"

namespace orch {

/// The sum over a maximal subtree [lo, hi) within the local slots.
struct GradientPart {
  int64_t lo, hi;
  float* data;
};

class GradientSums {
 public:
  GradientSums(int64_t length, std::vector<Bucket> buckets) : length_(length), buckets_(std::move(buckets)) {}

  /// Where buffers come from; for memory that other processes may read. Before the first acquire().
  void allocate_with(std::function<Buffer(size_t)> allocate) { allocate_ = std::move(allocate); }
  /// Starts the sums of slots [first, end) of `total`. Parts of the round before become invalid. `announce`
  /// is called with each bucket in order, once all parts hold it, from the thread that completed it.
  void begin(int64_t first, int64_t end, int64_t total, std::function<void(int)> announce);
  /// A buffer for one slot's gradient.
  float* acquire();
  /// The slot's gradient of a bucket lies complete in its buffer. Thread-safe.
  void complete(int64_t slot, float* buffer, int bucket);
  /// Ascending; after all slots have completed. On the driver.
  const std::vector<GradientPart>& parts() const { return parts_; }
  /// The same from another thread, as they are now; data is null before a part's first bucket is complete.
  std::vector<GradientPart> parts_now();
  /// The step failed: there are no sums.
  void abandon();
  int64_t total_slots() const { return total_; }

 private:
  struct Node {
    int level;
    int64_t index;
    auto operator<=>(const Node&) const = default;
  };
  struct Waiting {
    float* buffer;
    bool left;
  };
  bool local(const Node& n) const;
  int64_t low(const Node& n) const { return n.index << n.level; }
  int64_t high(const Node& n) const { return std::min((n.index + 1) << n.level, total_); }
  void part_done(const Node& n, float* buffer, int bucket);

  const int64_t length_;
  const std::vector<Bucket> buckets_;
  std::mutex mutex_, announcing_;
  int64_t first_ = 0, end_ = 0, total_ = 0;
  std::function<void(int)> announce_;
  std::function<Buffer(size_t)> allocate_ = [](size_t bytes) { return Buffer(bytes); };
  std::vector<Buffer> memory_;
  std::vector<float*> free_;
  std::map<float*, size_t> released_;                // buckets of a buffer that were added into another
  std::map<std::pair<Node, int>, Waiting> waiting_;  // by parent and bucket: the child that came first
  std::vector<GradientPart> parts_;
  std::vector<size_t> parts_done_;  // by bucket
  size_t announced_ = 0;
};

}  // namespace orch
