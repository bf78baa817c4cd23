// The sum of slots as design and documents define it, for whatever claims to compute it.
#pragma once
#include <cstdint>
#include <vector>

namespace orch::test {

/// The tree's sum over [lo, hi) of `total` leaves, by its definition.
inline std::vector<float> tree_sum(const std::vector<std::vector<float>>& leaves, int level, int64_t index) {
  const int64_t total = static_cast<int64_t>(leaves.size());
  if (level == 0) return leaves[index];
  auto left = tree_sum(leaves, level - 1, 2 * index);
  if (((2 * index + 1) << (level - 1)) >= total) return left;
  const auto right = tree_sum(leaves, level - 1, 2 * index + 1);
  for (size_t i = 0; i < left.size(); ++i) left[i] += right[i];
  return left;
}

/// The root's level of a tree over `total` slots.
inline int root_level(int64_t total) {
  int level = 0;
  while ((int64_t{1} << level) < total) ++level;
  return level;
}

}  // namespace orch::test
