// The fixed balanced tree over the V slots of a step, along which gradients are summed. Node (level, index)
// covers [index << level, (index + 1) << level) clipped to V; its sum is that of its two children, or its
// left child's where the right one is empty. Whoever computes which slots, the additions are the same, so the
// bits of the root are the same.
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

/// The maximal nodes within [first, end) of `total` slots, ascending: what a worker can sum by itself.
std::vector<SlotRange> local_subtrees(int64_t first, int64_t end, int64_t total);

/// The additions (into, from), in their order, that make the root's sum of these nodes' sums, as indices into
/// `parts`; it ends in part 0. Parts are ascending. Throws Error(ERR_EXCHANGE) where they do not cover all
/// slots once.
std::vector<std::pair<size_t, size_t>> additions(const std::vector<SlotRange>& parts, int64_t total);

}  // namespace orch
