// The device that this library drives: its stream and workspace. There is one device per process; calls come
// from one thread at a time. Functions throw Error(ERR_CUDA).
#pragma once
#include <cstddef>
#include <memory>

#include "../../core/dtype.h"

#if !defined(ORCH_EMULATED)
#include <cuda_runtime.h>
#endif

namespace orch::kernels::cuda {

/// Kernel launches are asynchronous; this waits until the stream is idle.
void synchronize();
/// At least `bytes` (256-byte aligned) of workspace for the operation being launched; the next operation may
/// use the same memory. It can grow only outside of stream capture.
void* workspace_bytes(size_t bytes);
/// Memory on the device, for checks and measurements; freed with its last owner. Not during a capture.
std::shared_ptr<void> device_memory(size_t bytes);
/// n random numbers of N(0, scale^2) in device memory; `id` chooses which.
std::shared_ptr<void> random_numbers(int64_t n, DType t, uint64_t id, float scale = 1);
/// Copies from the device after the work enqueued before, and waits for the copy.
void download(void* to, const void* from, size_t bytes);
/// Whether the device runs the kernels that need warpgroup.h.
bool has_warpgroups();
/// Checks a launch against the limits of the device and counts it. False if nothing must be launched: the
/// grid is empty, or the device only plans.
bool may_launch(dim3 grid, dim3 block, size_t shared);

#if defined(ORCH_EMULATED)
/// Runs the work, or records it during a capture.
void submit(std::function<void()> work);
#else
cudaStream_t compute_stream();
/// While it lives, kernels are launched on this stream in place of the compute stream. They may use no
/// workspace.
class OnStream {
 public:
  explicit OnStream(cudaStream_t stream);
  ~OnStream();
  OnStream(const OnStream&) = delete;

 private:
  const cudaStream_t before_;
};
void check(cudaError_t status, const char* what);
/// Allows a kernel more than 48 KiB of shared memory.
void raise_shared(const void* kernel, size_t shared);
/// Whether a kernel has the instructions of a launch that is `early` (context.h), and the device runs them.
bool can_start_early(const void* kernel);
/// Adds device memory that was allocated elsewhere to held_bytes().
void count_held(size_t bytes);
#endif

}  // namespace orch::kernels::cuda
