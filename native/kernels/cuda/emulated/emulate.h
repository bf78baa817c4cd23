// A GPU emulated on the CPU, for tests. The blocks of a grid run one after the other; each thread of a block
// is a fiber that yields at barriers and warp operations. Shared memory is filled with NaN before every
// block; asynchronous copies complete only when they are waited for; a warp operation or barrier that not all
// threads reach is an error. Not emulated: data races from misplaced barriers, and speed.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>

#define ORCH_EMULATED  // instead of cuda_runtime.h
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(8) float2 {
  float x, y;
};

namespace orch::emulate {

struct Place {
  dim3 thread, block, block_size, grid_size;
};
extern Place place;  ///< of the running thread

void run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& body);
/// Runs the threads of a block from the last to the first, which exposes results that depend on their order.
extern bool backwards;

unsigned char* shared();
void sync_block();
void sync_warp();
float shuffle_xor(float x, int mask);
void load_matrices(uint32_t (&r)[4], const void* row, bool transposed);
void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
void copy_async(void* to, const void* from, bool inside);
void commit_copies();
void wait_for_copies(int open);
/// Products that run when they are waited for.
void start_product(std::function<void()> product);
void commit_products();
void wait_for_products(int open);

}  // namespace orch::emulate

#define threadIdx (::orch::emulate::place.thread)
#define blockIdx (::orch::emulate::place.block)
#define blockDim (::orch::emulate::place.block_size)
#define gridDim (::orch::emulate::place.grid_size)
inline void __syncthreads() { ::orch::emulate::sync_block(); }
