// Converts between the rows of the two streams and the joint rows that cuDNN's attention uses.
#include "attention_cudnn.h"
#include "attention_parts.h"

namespace orch::kernels::cuda {
namespace {

constexpr int kThreads = 256;

/// Copies the joint rows [samples, queries, width] to the streams, or from them into rows that are not const;
/// eight channels per thread.
template <class Joint, class Rows>
__global__ void __launch_bounds__(kThreads)
    copy_rows(Joint* joint, StreamRows<Rows> streams, AttentionDims d, uint32_t n) {
  const uint32_t i = blockIdx.x * kThreads + threadIdx.x;
  if (i >= n) return;
  const uint32_t vectors = static_cast<uint32_t>(d.heads * kHeadDim / 8), row = i / vectors,
                 queries = static_cast<uint32_t>(d.tokens - d.first_query), sample = row / queries;
  Rows* const there =
      streams.at(d, sample, 0, d.first_query + (row - sample * queries)) + (i - row * vectors) * 8;
  Joint* const here = joint + 8 * static_cast<int64_t>(i);
  if constexpr (std::is_const_v<Joint>)
    *reinterpret_cast<uint4*>(there) = *reinterpret_cast<const uint4*>(here);
  else
    *reinterpret_cast<uint4*>(here) = *reinterpret_cast<const uint4*>(there);
}
template <class Joint, class Rows>
void copy_joint(Joint* joint, StreamRows<Rows> streams, const AttentionDims& d) {
  const int64_t n = d.samples * (d.tokens - d.first_query) * d.heads * kHeadDim / 8;
  launch(copy_rows<Joint, Rows>, blocks(n, kThreads), kThreads, 0, joint, streams, d, index32(n));
}

/// Whether the computed rows are exactly those of the second stream, which are contiguous.
bool joint_already(const AttentionDims& d) { return d.first_query == d.split; }
/// The library supports whole batches only.
const LibraryAttention* library_for(const AttentionDims& d) {
  return d.to - d.from == d.samples * d.heads ? library_attention() : nullptr;
}
int64_t joint_elements(const AttentionDims& d) {
  return joint_already(d) ? 0
                          : (d.samples * (d.tokens - d.first_query) * d.heads * kHeadDim + 127) / 128 * 128;
}

}  // namespace

bool attention_by_library(StreamRows<bf16> out, float* lse, const bf16* q, const bf16* k, const bf16* v,
                          const AttentionDims& d) {
  const LibraryAttention* library = library_for(d);
  const int64_t bytes = library ? library->forward_bytes(d) : -1, n = joint_elements(d);
  if (bytes < 0) return false;
  bf16* const joint = workspace<bf16>(n + bytes / 2 + 1);
  library->forward(n ? joint : out.second, lse, q, k, v, d, joint + n);
  if (n) copy_joint<const bf16>(joint, out, d);
  return true;
}

bool attention_backward_by_library(bf16* dq, bf16* dk, bf16* dv, StreamRows<const bf16> dout,
                                   StreamRows<const bf16> out, const float* lse, const bf16* q, const bf16* k,
                                   const bf16* v, const AttentionDims& d) {
  const LibraryAttention* library = library_for(d);
  const int64_t bytes = library ? library->backward_bytes(d) : -1, n = joint_elements(d);
  if (bytes < 0) return false;
  bf16* const joint = workspace<bf16>(2 * n + bytes / 2 + 1);
  if (n) {
    copy_joint(joint, dout, d);
    copy_joint(joint + n, out, d);
  }
  library->backward(dq, dk, dv, n ? joint : dout.second, n ? joint + n : out.second, lse, q, k, v, d,
                    joint + 2 * n);
  return true;
}

}  // namespace orch::kernels::cuda
