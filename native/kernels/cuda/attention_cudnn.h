// Attention through cuDNN, where ORCHESTRATOR_CUDA_ATTENTION=cudnn asks for it, the library is there and has
// a plan for the shape that gives the same bits every time (cudnn-any: any plan).
#pragma once
#include "../kernels.h"

namespace orch::kernels::cuda {

/// Outputs and their gradients here are joint: [samples, tokens - first_query, heads * 64].
struct LibraryAttention {
  /// Bytes of workspace, or -1: there is no plan. Plans are made once for a shape.
  int64_t (*forward_bytes)(const AttentionDims& d);
  int64_t (*backward_bytes)(const AttentionDims& d);
  void (*forward)(bf16* out, float* lse, const bf16* q, const bf16* k, const bf16* v, const AttentionDims& d,
                  void* workspace);
  void (*backward)(bf16* dq, bf16* dk, bf16* dv, const bf16* dout, const bf16* out, const float* lse,
                   const bf16* q, const bf16* k, const bf16* v, const AttentionDims& d, void* workspace);
};
/// Null where it is not asked for, or the library is not there.
const LibraryAttention* library_attention();

}  // namespace orch::kernels::cuda
