// The primitives of the kernels in this folder: vectors of eight elements, warp reductions, tensor-core
// products, asynchronous copies. Without nvcc the same sources are compiled against emulated/emulate.h, which
// runs a grid on the CPU, thread by thread, so that indices, orders of sums and barriers can be tested
// without a GPU.
#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "../../core/dtype.h"

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#define GPU_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]
#else
#include "emulated/emulate.h"
#define GPU_SHARED(name) unsigned char* const name = ::orch::emulate::shared()
#endif
#define GPU_INLINE __device__ __forceinline__

namespace orch::kernels::cuda {

constexpr int kWarp = 32;

// --- numbers
GPU_INLINE float as_float(uint32_t u) {
#if defined(__CUDACC__)
  return __uint_as_float(u);
#else
  float f;
  __builtin_memcpy(&f, &u, 4);
  return f;
#endif
}
GPU_INLINE uint32_t as_bits(float f) {
#if defined(__CUDACC__)
  return __float_as_uint(f);
#else
  uint32_t u;
  __builtin_memcpy(&u, &f, 4);
  return u;
#endif
}
/// Rounds two floats to nearest even; the first is in the lower half.
GPU_INLINE uint32_t pack2(float low, float high) {
#if defined(__CUDACC__)
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
#else
  return to_bf16(low).bits | static_cast<uint32_t>(to_bf16(high).bits) << 16;
#endif
}
GPU_INLINE float low_half(uint32_t u) { return as_float(u << 16); }
GPU_INLINE float high_half(uint32_t u) { return as_float(u & 0xffff0000u); }

GPU_INLINE float widen(float x) { return x; }
GPU_INLINE float widen(bf16 x) { return as_float(static_cast<uint32_t>(x.bits) << 16); }
template <class T>
GPU_INLINE T narrow(float x) {
  if constexpr (std::is_same_v<T, float>)
    return x;
  else
    return {static_cast<uint16_t>(pack2(x, 0.0f))};
}

// --- eight elements
/// Eight elements in their storage type: one or two 16-byte accesses, which must be aligned.
template <class T>
struct Pack;
template <>
struct Pack<bf16> {
  uint4 v;
  GPU_INLINE void load(const bf16* p) { v = *reinterpret_cast<const uint4*>(p); }
  GPU_INLINE void widen(float (&x)[8]) const {
    const uint32_t w[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      x[2 * i] = low_half(w[i]);
      x[2 * i + 1] = high_half(w[i]);
    }
  }
  GPU_INLINE void narrow(const float (&x)[8]) {
    v = uint4{pack2(x[0], x[1]), pack2(x[2], x[3]), pack2(x[4], x[5]), pack2(x[6], x[7])};
  }
  GPU_INLINE void store(bf16* p) const { *reinterpret_cast<uint4*>(p) = v; }
};
template <>
struct Pack<float> {
  float4 a, b;
  GPU_INLINE void load(const float* p) {
    a = reinterpret_cast<const float4*>(p)[0];
    b = reinterpret_cast<const float4*>(p)[1];
  }
  GPU_INLINE void widen(float (&x)[8]) const {
    const float w[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] = w[i];
  }
  GPU_INLINE void narrow(const float (&x)[8]) {
    a = float4{x[0], x[1], x[2], x[3]};
    b = float4{x[4], x[5], x[6], x[7]};
  }
  GPU_INLINE void store(float* p) const {
    reinterpret_cast<float4*>(p)[0] = a;
    reinterpret_cast<float4*>(p)[1] = b;
  }
};
template <class T>
GPU_INLINE void load8(float (&x)[8], const T* p) {
  Pack<T> pack;
  pack.load(p);
  pack.widen(x);
}
template <class T>
GPU_INLINE void store8(T* p, const float (&x)[8]) {
  Pack<T> pack;
  pack.narrow(x);
  pack.store(p);
}

// --- warp operations: every lane takes part
GPU_INLINE float shuffle_xor(float x, int mask) {
#if defined(__CUDACC__)
  return __shfl_xor_sync(0xffffffffu, x, mask);
#else
  return emulate::shuffle_xor(x, mask);
#endif
}
/// Sums groups of `Lanes` adjacent lanes, with the result in every lane; all lanes use the same tree of
/// additions.
template <int Lanes = kWarp>
GPU_INLINE float sum_lanes(float x) {
#pragma unroll
  for (int mask = 1; mask < Lanes; mask *= 2) x += shuffle_xor(x, mask);
  return x;
}
template <int Lanes = kWarp>
GPU_INLINE float max_lanes(float x) {
#pragma unroll
  for (int mask = 1; mask < Lanes; mask *= 2) x = fmaxf(x, shuffle_xor(x, mask));
  return x;
}
GPU_INLINE uint32_t max_lanes(uint32_t x) {
#if defined(__CUDACC__)
  return __reduce_max_sync(0xffffffffu, x);
#else
  for (int mask = 1; mask < kWarp; mask *= 2) {
    const uint32_t other = as_bits(shuffle_xor(as_float(x), mask));
    x = x > other ? x : other;
  }
  return x;
#endif
}
/// Makes the warp's writes to shared memory visible to all its lanes.
GPU_INLINE void sync_warp() {
#if defined(__CUDACC__)
  __syncwarp();
#else
  emulate::sync_warp();
#endif
}

// --- between blocks and kernels
/// *to = max(*to, x), in memory that other blocks raise, too.
GPU_INLINE void atomic_max(uint32_t* to, uint32_t x) {
#if defined(__CUDACC__)
  atomicMax(to, x);
#else
  if (x > *to) *to = x;  // blocks run one after the other
#endif
}
/// Programmatic dependent launch: lets a kernel that was enqueued by an early launch() (context.h) start when
/// all blocks of this one have come here or ended.
GPU_INLINE void let_next_kernel_start() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" : : : "memory");
#endif
}
/// Waits until the kernel before this one has ended and its writes are visible. Nothing to do in a kernel
/// that was not started early.
GPU_INLINE void wait_for_previous_kernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" : : : "memory");
#endif
}

// --- tensor cores
/// ldmatrix: four 8 x 8 matrices of bf16 from shared memory. Lane i passes the address of row i % 8 of matrix
/// i / 8. Lane i receives from each matrix the elements (i / 4, 2 (i % 4)) and the one to its right;
/// transposed, (2 (i % 4), i / 4) and the one below it.
template <bool Transposed>
GPU_INLINE void load_matrices(uint32_t (&r)[4], const void* row) {
#if defined(__CUDACC__)
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (Transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
#else
  emulate::load_matrices(r, row, Transposed);
#endif
}
/// mma.m16n8k16: c [16, 8] += a [16, 16] b [16, 8]. With g = lane / 4 and t = 2 (lane % 4): a holds (g, t),
/// (g + 8, t), (g, t + 8), (g + 8, t + 8); b0 (t, g), b1 (t + 8, g), pairs going down the rows; c (g, t), (g,
/// t + 1), (g + 8, t), (g + 8, t + 1).
GPU_INLINE void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#if defined(__CUDACC__)
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  emulate::multiply_add(c, a, b0, b1);
#endif
}

// --- asynchronous copies to shared memory
/// cp.async: copies 16 bytes, or writes zeros if not `inside` (the address must be valid in any case).
GPU_INLINE void copy_async(void* to, const void* from, bool inside) {
#if defined(__CUDACC__)
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(to))), "l"(from), "r"(inside ? 16 : 0)
               : "memory");
#else
  emulate::copy_async(to, from, inside);
#endif
}
GPU_INLINE void commit_copies() {
#if defined(__CUDACC__)
  asm volatile("cp.async.commit_group;" : : : "memory");
#else
  emulate::commit_copies();
#endif
}
/// Waits until at most `Open` of this thread's groups of copies are in flight.
template <int Open>
GPU_INLINE void wait_for_copies() {
#if defined(__CUDACC__)
  asm volatile("cp.async.wait_group %0;" : : "n"(Open) : "memory");
#else
  emulate::wait_for_copies(Open);
#endif
}

}  // namespace orch::kernels::cuda
