// Sums of slot gradients on a device, along the same tree as GradientSums. Slots arrive one after the other
// in ascending order, so the nodes that wait for their right sibling form a stack.
#pragma once
#include <algorithm>
#include <vector>

#include "../graph/device.h"
#include "gradient_sums.h"

namespace orch {

class DeviceSums {
 public:
  DeviceSums(graph::Device& device, int64_t length) : device_(device), length_(length) {}

  /// Starts the sums of slots [first, end) out of `total`.
  void begin(int64_t first, int64_t end, int64_t total);
  /// The buffer for the next slot's gradient.
  float* acquire();
  /// The next slot's gradient is complete in its buffer, in the order of the stream.
  void complete(float* buffer);
  /// Parts on the device, ascending; valid after the last slot.
  std::vector<GradientPart> parts() const;
  /// The step failed: there are no sums.
  void abandon() { stack_.clear(); }

 private:
  struct Node {
    int level;
    int64_t index;
    float* buffer;
  };
  int64_t low(const Node& n) const { return n.index << n.level; }
  int64_t high(const Node& n) const { return std::min((n.index + 1) << n.level, total_); }

  graph::Device& device_;
  const int64_t length_;
  int64_t first_ = 0, end_ = 0, total_ = 0, next_ = 0;
  std::vector<graph::DeviceMemory> memory_;
  std::vector<float*> free_;
  std::vector<Node> stack_;
};

}  // namespace orch
