// C [m, n] = op(A) op(B) (+ bias over n) (+ C) in the calling thread: by an own kernel where it is the
// fastest, else through oneDNN.
#pragma once
#include <memory>

#include "../graph/backend.h"

namespace orch::ops {

using graph::MatmulSpec;

class Matmul {
 public:
  explicit Matmul(const MatmulSpec& spec);
  ~Matmul();
  size_t scratch_bytes() const;
  double flops() const { return 2.0 * spec_.m * spec_.n * spec_.k; }
  /// Into how many parts C may be cut; each has the bits that it has in the whole.
  int64_t parts() const;
  int64_t grain() const;
  /// Parts [from, to). Thread-safe; scratch is the calling thread's.
  void run(const void* a, const void* b, const float* bias, void* c, void* scratch, int64_t from,
           int64_t to) const;
  void run(const void* a, const void* b, const float* bias, void* c, void* scratch) const {
    run(a, b, bias, c, scratch, 0, parts());
  }

 private:
  struct Impl;
  MatmulSpec spec_;
  std::unique_ptr<Impl> impl_;
};

/// "major.minor.patch" of the library in use.
const char* onednn_version();

}  // namespace orch::ops
