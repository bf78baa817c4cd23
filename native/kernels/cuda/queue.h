// CUDA's queue of work, for sources that hold no kernels; context.h is for those that do.
#pragma once
#include <cuda_runtime.h>

namespace orch::kernels::cuda {

cudaStream_t queue();
void check(cudaError_t status, const char* what);
void synchronize();
void* workspace_bytes(size_t bytes);
/// Memory of the device that was allocated past it, for its account.
void count_held(size_t bytes);
void download(void* to, const void* from, size_t bytes);
bool may_launch(dim3 grid, dim3 block, size_t shared);
/// Lets a kernel have more than 48 KiB of shared memory.
void raise_shared(const void* kernel, size_t shared);

}  // namespace orch::kernels::cuda
