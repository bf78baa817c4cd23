// The device that this library drives: its stream, workspace, and the launch of kernels. There is one device
// per process; calls come from one thread at a time.
#pragma once
#include <string>
#include <type_traits>

#include "gpu.h"

namespace orch::kernels::cuda {

/// Kernel launches are asynchronous; this waits until the stream is idle. Throws Error(ERR_CUDA), as all
/// functions here do.
void synchronize();

/// At least `bytes` (256-byte aligned) of workspace for the operation being launched; the next operation may
/// use the same memory. It can grow only outside of stream capture.
void* workspace_bytes(size_t bytes);
template <class T>
T* workspace(int64_t n) {
  return static_cast<T*>(workspace_bytes(static_cast<size_t>(n) * sizeof(T)));
}

/// Copies from the device after the work enqueued before, and waits for the copy.
void download(void* to, const void* from, size_t bytes);

/// Checks a launch against the limits of sm_90 and counts it. False if nothing must be launched: the grid is
/// empty, or the device only plans.
bool may_launch(dim3 grid, dim3 block, size_t shared);

#if defined(__CUDACC__)
cudaStream_t compute_stream();
void check(cudaError_t status, const char* what);
/// Allows a kernel more than 48 KiB of shared memory.
void raise_shared(const void* kernel, size_t shared);
#else
/// Runs the work, or records it during a capture.
void submit(std::function<void()> work);
#endif

template <class... P>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
            std::type_identity_t<P>... arguments) {
  if (!may_launch(grid, block, shared)) return;
#if defined(__CUDACC__)
  if (shared > 48 * 1024) raise_shared(reinterpret_cast<const void*>(kernel), shared);
  kernel<<<grid, block, shared, compute_stream()>>>(arguments...);
  check(cudaGetLastError(), "launch");
#else
  submit([=] { emulate::run(grid, block, shared, [&] { kernel(arguments...); }); });
#endif
}

/// A number of threads or rows as a 32-bit index. Throws Error(ERR_CUDA) if it is too large.
uint32_t index32(int64_t n);
inline unsigned blocks(int64_t n, int64_t each) { return static_cast<unsigned>((n + each - 1) / each); }

}  // namespace orch::kernels::cuda
