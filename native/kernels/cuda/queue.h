// The CUDA stream, for sources without kernels; context.h is for those with kernels.
#pragma once
#include <cuda_runtime.h>

namespace orch::kernels::cuda {

cudaStream_t compute_stream();
void check(cudaError_t status, const char* what);
void synchronize();
void* workspace_bytes(size_t bytes);
/// Adds device memory that was allocated elsewhere to held_bytes().
void count_held(size_t bytes);
void download(void* to, const void* from, size_t bytes);
bool may_launch(dim3 grid, dim3 block, size_t shared);
/// Allows a kernel more than 48 KiB of shared memory.
void raise_shared(const void* kernel, size_t shared);

}  // namespace orch::kernels::cuda
