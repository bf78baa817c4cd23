// The launch of kernels on the device's stream.
#pragma once
#include <string>
#include <type_traits>

#include "gpu.h"
#include "queue.h"

namespace orch::kernels::cuda {

template <class T>
T* workspace(int64_t n) {
  return static_cast<T*>(workspace_bytes(static_cast<size_t>(n) * sizeof(T)));
}

/// Launches a kernel. `early`: it may start before the kernel enqueued before it has ended, where the GPU can
/// do that (compute capability 9.0). That one calls let_next_kernel_start(), and this one
/// wait_for_previous_kernel() before it reads what that one writes, and before it writes anything; it can
/// read at once what earlier kernels have written.
template <class... P>
void launch(bool early, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
            std::type_identity_t<P>... arguments) {
  if (!may_launch(grid, block, shared)) return;
#if defined(__CUDACC__)
  const void* const address = reinterpret_cast<const void*>(kernel);
  if (shared > 48 * 1024) raise_shared(address, shared);
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  const unsigned attributes = early && can_start_early(address) ? 1 : 0;
  const cudaLaunchConfig_t config{grid, block, shared, compute_stream(), &overlap, attributes};
  check(cudaLaunchKernelEx(&config, kernel, arguments...), "launch");
#else
  submit([=] { emulate::run(grid, block, shared, [&] { kernel(arguments...); }); });
#endif
}
template <class... P>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
            std::type_identity_t<P>... arguments) {
  launch(false, kernel, grid, block, shared, arguments...);
}

/// A number of threads or rows as a 32-bit index. Throws Error(ERR_CUDA) if it is too large.
uint32_t index32(int64_t n);
inline unsigned blocks(int64_t n, int64_t each) { return static_cast<unsigned>((n + each - 1) / each); }

}  // namespace orch::kernels::cuda
