// Attention through cuDNN. It is used if ORCHESTRATOR_CUDA_ATTENTION=cudnn asks for it, the library is
// available, and it has a deterministic plan for the shape (cudnn-any: any plan).
#pragma once
#include "../kernels.h"

namespace orch::kernels::cuda {

/// Outputs and their gradients are joint here: [samples, tokens - first_query, heads * 64].
struct LibraryAttention {
  /// Bytes of workspace, or -1 if there is no plan. Plans are created once per shape.
  int64_t (*forward_bytes)(const AttentionDims& d);
  int64_t (*backward_bytes)(const AttentionDims& d);
  void (*forward)(bf16* out, float* lse, const bf16* q, const bf16* k, const bf16* v, const AttentionDims& d,
                  void* workspace);
  void (*backward)(bf16* dq, bf16* dk, bf16* dv, const bf16* dout, const bf16* out, const float* lse,
                   const bf16* q, const bf16* k, const bf16* v, const AttentionDims& d, void* workspace);
};
/// Null if it was not asked for or the library is not available.
const LibraryAttention* library_attention();

}  // namespace orch::kernels::cuda
