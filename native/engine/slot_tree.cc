#include "slot_tree.h"

#include <algorithm>
#include <bit>
#include <string>

#include "../core/error.h"

namespace orch {
namespace {

int64_t root_size(int64_t total) { return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(total))); }

void collect(int64_t lo, int64_t size, int64_t first, int64_t end, int64_t total,
             std::vector<SlotRange>& found) {
  const int64_t hi = std::min(lo + size, total);
  if (lo >= end || hi <= first || lo >= total) return;
  if (lo >= first && hi <= end) return found.push_back({lo, hi});
  collect(lo, size / 2, first, end, total, found);
  collect(lo + size / 2, size / 2, first, end, total, found);
}

/// Appends the additions of the node [lo, lo + size) to `list`. `at` is the index of the part that starts at
/// lo; it is advanced past the node's parts. Returns the part that holds the node's sum.
size_t add_node(const std::vector<SlotRange>& parts, int64_t lo, int64_t size, int64_t total, size_t& at,
                std::vector<std::pair<size_t, size_t>>& list) {
  const int64_t hi = std::min(lo + size, total);
  if (at >= parts.size() || parts[at].lo != lo || size == 0)
    throw Error("ERR_EXCHANGE", "The workers' parts leave out slot ", lo);
  if (parts[at].hi == hi) return at++;
  const size_t left = add_node(parts, lo, size / 2, total, at, list);
  if (lo + size / 2 < total)
    list.emplace_back(left, add_node(parts, lo + size / 2, size / 2, total, at, list));
  return left;
}

}  // namespace

std::vector<SlotRange> local_subtrees(int64_t first, int64_t end, int64_t total) {
  std::vector<SlotRange> found;
  collect(0, root_size(total), first, end, total, found);
  return found;
}

std::vector<std::pair<size_t, size_t>> additions(const std::vector<SlotRange>& parts, SlotRange within,
                                                 int64_t total) {
  std::vector<std::pair<size_t, size_t>> list;
  size_t at = 0;
  for (const SlotRange& node : local_subtrees(within.lo, within.hi, total))
    add_node(parts, node.lo, root_size(node.hi - node.lo), total, at, list);
  if (at != parts.size()) throw Error("ERR_EXCHANGE", "The workers' parts overlap");
  return list;
}

}  // namespace orch
