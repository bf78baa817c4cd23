// Attention through cuDNN. It serves wherever it can be opened, has a plan for the shape, and passes a check
// of the plan (attention_library.cu). ORCHESTRATOR_CUDA_ATTENTION=own turns it off, cudnn demands that it can
// be opened, and cudnn-any also takes plans whose bits differ from run to run.
#pragma once
#include <string>

#include "../kernels.h"

namespace orch::kernels::cuda {

/// A library's attention. Outputs and their gradients are joint here: [samples, tokens - first_query, heads *
/// 64].
struct LibraryAttention {
  std::string name;         ///< "cuDNN 9.24.0"
  bool differing_bits_too;  ///< whether plans that do not repeat their bits may serve
  bool demanded;            ///< whether it serves where the own kernels are faster, too
  /// Bytes of workspace. Plans are made once per shape. Throws Error(ERR_CUDA) if there is none, saying why.
  size_t (*workspace_bytes)(const AttentionDims& d, bool backward);
  void (*forward)(bf16* out, float* lse, const bf16* q, const bf16* k, const bf16* v, const AttentionDims& d,
                  void* workspace);
  void (*backward)(bf16* dq, bf16* dk, bf16* dv, const bf16* dout, const bf16* out, const float* lse,
                   const bf16* q, const bf16* k, const bf16* v, const AttentionDims& d, void* workspace);
};
/// The name of the kernels that serve on Hopper, where no library is demanded.
constexpr const char* kHopperAttention = "own kernels for Hopper";
/// Null if there is none, and why.
const LibraryAttention* library_attention(std::string* why = nullptr);

/// What computes the attention of this shape in bf16, forward or backward: kHopperAttention, the library's
/// name, or "own kernels" and why it is not the library. Not during a capture.
std::string attention_by(const AttentionDims& d, bool backward);

}  // namespace orch::kernels::cuda
