// How operations without matmuls are split into parts that threads can share.
#pragma once
#include <algorithm>

#include "../graph/graph.h"

namespace orch::ops {

/// A row of n elements, in pieces of `size`.
struct Pieces {
  int64_t n, size = 1 << 15;
  int64_t parts() const { return (n + size - 1) / size; }
  int64_t begin(const graph::Run& r) const { return std::min(r.from * size, n); }
  int64_t end(const graph::Run& r) const { return std::min(r.to * size, n); }
};

/// A stream of tokens, in blocks that do not cross samples.
struct TokenBlocks {
  int64_t samples, tokens, size = 64;
  int64_t of_sample() const { return (tokens + size - 1) / size; }
  int64_t parts() const { return samples * of_sample(); }
  /// Calls f(first sample, samples, first token, tokens) for every block of r's parts, or once if r covers
  /// all of them.
  template <class F>
  void each(const graph::Run& r, F f) const {
    if (r.from == 0 && r.to == parts()) return f(0, samples, 0, tokens);
    for (int64_t part = r.from; part < r.to; ++part) {
      const int64_t first = part % of_sample() * size;
      f(part / of_sample(), 1, first, std::min(size, tokens - first));
    }
  }
};

}  // namespace orch::ops
