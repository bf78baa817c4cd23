// The sum over slots as docs/guide/distributed.md defines it, to test implementations against.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

namespace orch::test {

/// Gradients of slots, of magnitudes so different that every order of additions has its own sums.
inline std::vector<std::vector<float>> random_leaves(int64_t total, int64_t length, std::mt19937& random) {
  std::vector<std::vector<float>> leaves(total, std::vector<float>(length));
  for (auto& v : leaves)
    for (float& x : v) x = std::ldexp(static_cast<float>(random()), static_cast<int>(random() % 40) - 20);
  return leaves;
}

/// The sum of the tree node (level, index), by definition.
inline std::vector<float> tree_sum(const std::vector<std::vector<float>>& leaves, int level, int64_t index) {
  const int64_t total = static_cast<int64_t>(leaves.size());
  if (level == 0) return leaves[index];
  auto left = tree_sum(leaves, level - 1, 2 * index);
  if (((2 * index + 1) << (level - 1)) >= total) return left;
  const auto right = tree_sum(leaves, level - 1, 2 * index + 1);
  for (size_t i = 0; i < left.size(); ++i) left[i] += right[i];
  return left;
}

/// The sum of the node that covers slots [lo, hi).
inline std::vector<float> part_sum(const std::vector<std::vector<float>>& leaves, int64_t lo, int64_t hi) {
  const int64_t total = static_cast<int64_t>(leaves.size());
  int level = 0;
  while (((lo >> level) << level) == lo && std::min(total, ((lo >> level) + 1) << level) < hi) ++level;
  return tree_sum(leaves, level, lo >> level);
}

}  // namespace orch::test
