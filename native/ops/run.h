// What the operations share: the kernels of a storage type, and parts of the work that threads share.
#pragma once
#include <algorithm>

#include "../graph/graph.h"

namespace orch::ops {

using graph::Run;

/// p + n, or null if p is: its value is none.
template <class T>
T* advanced(T* p, int64_t n) {
  return p ? p + n : nullptr;
}

/// The work of an operation on storage type t: f(run, the kernels of the type), a template over the type.
template <class F>
auto typed(DType t, F f) {
  return [=](const Run& r) { t == DType::F32 ? f(r, r.table.f32) : f(r, r.table.b16); };
}
/// The same with two types: the residual stream's and the activations'. An fp32 residual may be combined with
/// bf16 activations, but not the other way round.
template <class F>
auto typed(DType residual, DType activation, F f) {
  return [=](const Run& r) {
    if (activation == residual)
      typed(activation, f)(r);
    else
      f(r, r.table.mixed);
  };
}

/// A row of n elements, in pieces of `size`.
struct Pieces {
  int64_t n, size = 1 << 15;
  int64_t parts() const { return (n + size - 1) / size; }
  int64_t begin(const Run& r) const { return std::min(r.from * size, n); }
  int64_t end(const Run& r) const { return std::min(r.to * size, n); }
};

/// A stream of tokens, in blocks that do not cross samples.
struct TokenBlocks {
  int64_t samples, tokens, size = 64;
  int64_t of_sample() const { return (tokens + size - 1) / size; }
  int64_t parts() const { return samples * of_sample(); }
  /// Calls f(first sample, samples, first token, tokens) for every block of r's parts, or once if r covers
  /// all of them.
  template <class F>
  void each(const Run& r, F f) const {
    if (r.from == 0 && r.to == parts()) return f(0, samples, 0, tokens);
    for (int64_t part = r.from; part < r.to; ++part) {
      const int64_t first = part % of_sample() * size;
      f(part / of_sample(), 1, first, std::min(size, tokens - first));
    }
  }
};

}  // namespace orch::ops
