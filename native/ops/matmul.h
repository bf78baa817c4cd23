// C [m, n] = op(A) op(B) (+ bias over n) (+ C) on the calling thread, by the kernels of this processor.
#pragma once
#include "../core/error.h"
#include "../graph/backend.h"

namespace orch::ops {

using graph::MatmulSpec;

class Matmul {
 public:
  /// Throws Error(ERR_INTERNAL) if the operands have different types, or if C is accumulated into and not
  /// fp32.
  explicit Matmul(const MatmulSpec& s)
      : kernel_(s.a == DType::F32 ? kernels::cpu().matmul_f32 : kernels::cpu().matmul_b16),
        dims_{s.m, s.n, s.k, s.transpose_a, s.transpose_b, s.c == DType::F32, s.accumulate} {
    if (s.a != s.b || s.a == DType::F16 || s.c == DType::F16 || (s.accumulate && s.c != DType::F32))
      throw Error("ERR_INTERNAL", "matmul: no kernel for " + graph::key_of(s));
  }
  size_t scratch_bytes() const { return kernel_.scratch_bytes(dims_); }
  double flops() const { return 2.0 * static_cast<double>(dims_.m) * static_cast<double>(dims_.n * dims_.k); }
  /// The number of parts into which C can be cut; each has the same bits as in the whole.
  int64_t parts() const { return kernel_.parts(dims_); }
  int64_t grain() const { return kernel_.grain(dims_); }
  /// Computes parts [from, to). Thread-safe if each thread has its own scratch.
  void run(const void* a, const void* b, const float* bias, void* c, void* scratch, int64_t from,
           int64_t to) const {
    kernel_.run(c, a, b, bias, dims_, from, to, scratch);
  }
  void run(const void* a, const void* b, const float* bias, void* c, void* scratch) const {
    run(a, b, bias, c, scratch, 0, parts());
  }

 private:
  const kernels::Matmul& kernel_;
  kernels::MatmulDims dims_;
};

}  // namespace orch::ops
