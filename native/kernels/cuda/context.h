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
