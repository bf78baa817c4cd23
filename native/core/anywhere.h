// Marks functions that run on the CPU and in GPU kernels.
#pragma once

#if defined(__CUDACC__)
#define ORCH_ANYWHERE __host__ __device__ inline
#else
#define ORCH_ANYWHERE inline
#endif
