// The fixed balanced binary tree over the V slots of a step, along which gradients are summed. Node (level,
// index) covers slots [index << level, (index + 1) << level), clipped to V; its sum is that of its two
// children, or its left child's if the right one is empty. The additions do not depend on which worker
// computes which slots, so neither do the bits of the root.
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace orch {

/// Slots [lo, hi).
struct SlotRange {
  int64_t lo, hi;
  bool operator==(const SlotRange&) const = default;
};

/// The maximal nodes within [first, end) of `total` slots, ascending: what one worker can sum by itself.
std::vector<SlotRange> local_subtrees(int64_t first, int64_t end, int64_t total);

/// The ordered additions (into, from), as indices into `parts`, that compute the sums of the maximal nodes
/// within `within` from the sums of these nodes. The result of a node is in its first part; each sum appears
/// in the order in which it grows. Parts must be ascending. Throws Error(ERR_EXCHANGE) if they do not cover
/// all slots of `within` exactly once.
std::vector<std::pair<size_t, size_t>> additions(const std::vector<SlotRange>& parts, SlotRange within,
                                                 int64_t total);

}  // namespace orch
