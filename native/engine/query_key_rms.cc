#include "query_key_rms.h"

#include <cmath>
#include <cstring>

namespace orch {
namespace {

/// Sums of squares of queries and of keys in rows [rows, 3 * width] of (q, k, v).
template <class T>
std::pair<double, double> sum_squares(const T* qkv, int64_t rows, int64_t width) {
  std::pair<double, double> sums{0, 0};
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < width; ++i) {
      const double q = to_float(qkv[r * 3 * width + i]), k = to_float(qkv[r * 3 * width + width + i]);
      sums.first += q * q;
      sums.second += k * k;
    }
  return sums;
}

}  // namespace

std::vector<QueryKeyRms> query_key_rms(Engine& engine, const RawBatch& batch, State weights) {
  const ModelSpec& model = engine.spec().model;
  const int64_t size = engine.spec().shape.samples, count = batch.count(), width = model.hidden();
  // The order in which the model splits queries and keys.
  std::vector<QueryKeyRms> result;
  for (int64_t b = 0; b < model.depth; ++b) {
    const std::string block = "joint_blocks." + std::to_string(b);
    result.push_back({block + ".context_block.attn", 0, 0});
    result.push_back({block + ".x_block.attn", 0, 0});
    if (model.dual(b)) result.push_back({block + ".x_block.attn2", 0, 0});
  }
  const int64_t calls = (count + size - 1) / size;
  // By call, then added in order, so that the sums do not depend on the number of threads.
  std::vector<std::vector<std::pair<double, double>>> sums(calls);
  std::vector<int64_t> rows(result.size());
  engine.observe(
      batch, weights,
      [&](int64_t call, const graph::Graph& g, const graph::Node& node, const Engine::Operand& operand) {
        if (std::strcmp(node.op->name, "split heads, qk norm") != 0) return;
        // The operands are still valid: nothing that ran since could have reused their memory.
        const graph::Value& qkv = g[node.inputs[0]];
        const int64_t tokens = qkv.shape[0] / size, n = tokens * std::min(size, count - call * size);
        const void* data = operand(node.inputs[0]);
        sums[call].push_back(qkv.dtype == DType::BF16
                                 ? sum_squares(static_cast<const bf16*>(data), n, width)
                                 : sum_squares(static_cast<const float*>(data), n, width));
        if (call == 0) rows[sums[0].size() - 1] = tokens * count;
      });
  for (size_t i = 0; i < result.size(); ++i) {
    for (const auto& call : sums) {
      result[i].query += call.at(i).first;
      result[i].key += call.at(i).second;
    }
    const double n = static_cast<double>(rows[i] * width);
    result[i].query = std::sqrt(result[i].query / n);
    result[i].key = std::sqrt(result[i].key / n);
  }
  return result;
}

}  // namespace orch
