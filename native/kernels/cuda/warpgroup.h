// Products of a warpgroup (128 threads, four warps) on Hopper's tensor cores: wgmma. They run asynchronously:
// a product may read its tile and change its sums from the moment it is started until a wait, and nobody may
// touch them in between. Only code built for compute capability 9.0 has them (built_for_warpgroups in
// limits.cc).
#pragma once
#include "attention_parts.h"

namespace orch::kernels::cuda {

constexpr int kTileRows = 64, kTileBytes = kTileRows * kRowBytes;  ///< aligned to 1024 bytes in shared memory
/// The kernels' blocks: two warpgroups, each with 64 rows of its own.
constexpr int kGroups = 2, kThreads = kGroups * 4 * kWarp, kOwn = kGroups * kTileRows;

/// How a product reads its right operand, a swizzled tile of 64 rows of 64 channels. ByChannels: column j is
/// row j of the tile, and the product sums over channels. ByRows: column j is channel j, and it sums over
/// rows.
enum class Right { ByChannels, ByRows };

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
/// The tile as the tensor cores address it: 1024 bytes between groups of eight rows, swizzled by 128 bytes.
GPU_INLINE uint64_t tile_descriptor(const void* tile) {
  const uint64_t address = static_cast<uint64_t>(__cvta_generic_to_shared(tile));
  return (address & 0x3ffff) >> 4 | uint64_t{1} << 16 | uint64_t{1024 >> 4} << 32 | uint64_t{1} << 62;
}
#endif

#if !defined(__CUDACC__)
/// The product by its definition, when it is waited for: a tile or sums that were changed before give another
/// result, and sums that are read before are NaN.
template <Right By>
void product_now(float (&sum)[8][4], const uint32_t (&left)[4], unsigned char* tile, int step, bool adds) {
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = 2 * (lane % 4);
  const auto element = [&](int row, int channel) -> uint32_t {
    return reinterpret_cast<const uint16_t*>(chunk_at(tile, row, channel / 8))[channel % 8];
  };
  for (int n = 0; n < 8; ++n) {
    uint32_t right[2];
    for (int half = 0; half < 2; ++half) {
      const int k = 16 * step + 8 * half + t, column = 8 * n + g;
      right[half] = By == Right::ByRows ? element(k, column) | element(k + 1, column) << 16
                                        : element(column, k) | element(column, k + 1) << 16;
    }
    if (!adds)
      for (float& x : sum[n]) x = 0;
    multiply_add(sum[n], left, right[0], right[1]);
  }
}
inline void poison(float (&sum)[8][4]) {
  for (auto& block : sum)
    for (float& x : block) x = NAN;
}
#endif

/// Starts sum [64, 64] = left [64, 16] right [16, 64], added to the sum if `adds`: a warp has 16 rows, in the
/// layout of multiply_add; the right operand is part `step` of four of the tile.
template <Right By>
GPU_INLINE void start_product(float (&sum)[8][4], const uint32_t (&left)[4], unsigned char* tile, int step,
                              bool adds) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  // 16 channels are 32 bytes of every row, 16 rows are 2048 bytes; in units of 16 bytes.
  const uint64_t right =
      tile_descriptor(tile) + static_cast<uint64_t>(step) * (By == Right::ByRows ? 128 : 2);
#define ORCH_FOUR(n) "+f"(sum[n][0]), "+f"(sum[n][1]), "+f"(sum[n][2]), "+f"(sum[n][3])
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
      "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, "
      "{%32,%33,%34,%35}, %36, p, 1, 1, %38;\n}\n"
      : ORCH_FOUR(0), ORCH_FOUR(1), ORCH_FOUR(2), ORCH_FOUR(3), ORCH_FOUR(4), ORCH_FOUR(5), ORCH_FOUR(6),
        ORCH_FOUR(7)
      : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "l"(right), "r"(adds ? 1 : 0),
        "n"(By == Right::ByRows ? 1 : 0));
#undef ORCH_FOUR
#elif !defined(__CUDACC__)
  if (!adds) poison(sum);
  const uint4 a{left[0], left[1], left[2], left[3]};  // may be out of scope when the product runs
  emulate::start_product([&sum, a, tile, step, adds] {
    product_now<By>(sum, {a.x, a.y, a.z, a.w}, tile, step, adds);
  });
#endif
}
/// Before products whose operands in registers other instructions wrote.
GPU_INLINE void order_products() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.fence.sync.aligned;" : : : "memory");
#endif
}
/// Ends a batch of products.
GPU_INLINE void commit_products() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.commit_group.sync.aligned;" : : : "memory");
#elif !defined(__CUDACC__)
  emulate::commit_products();
#endif
}
/// Waits until at most the last `Open` batches are unfinished.
template <int Open>
GPU_INLINE void wait_for_products() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.wait_group.sync.aligned %0;" : : "n"(Open) : "memory");
#elif !defined(__CUDACC__)
  emulate::wait_for_products(Open);
#endif
}
/// Keeps the compiler from moving what reads or writes these numbers to the other side: after a wait, for the
/// sums; before a product starts that overwrites what they were computed from.
GPU_INLINE void settle(float (&sum)[8][4]) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#pragma unroll
  for (int n = 0; n < 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) asm volatile("" : "+f"(sum[n][e]) : : "memory");
#endif
}
/// Makes this thread's writes to shared memory visible to products that start after the next barrier.
GPU_INLINE void show_products() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("fence.proxy.async.shared::cta;" : : : "memory");
#endif
}

/// The whole product over the tile: four steps, with left operands for each.
template <Right By>
GPU_INLINE void start_products(float (&sum)[8][4], const uint32_t (&left)[4][4], unsigned char* tile,
                               bool adds) {
  order_products();
#pragma unroll
  for (int step = 0; step < 4; ++step) start_product<By>(sum, left[step], tile, step, adds || step > 0);
  commit_products();
}
/// Sums of a product as the left operands of one that sums over their columns.
GPU_INLINE void as_left(uint32_t (&left)[4][4], const float (&sum)[8][4]) {
#pragma unroll
  for (int step = 0; step < 4; ++step) sums_as_left(left[step], sum, step);
}

/// Rows of 64 channels of a sample and a head, by joint position: those before `split` are at `first`, the
/// others at `second`, both given for position 0. (32-bit indices: their arithmetic is a part of the time.)
struct HeadRows {
  const bf16 *first, *second;
  int stride, split;
  GPU_INLINE const bf16* at(int position) const {
    return (position >= split ? second : first) + position * stride;
  }
};
/// The rows of q, k or v.
GPU_INLINE HeadRows rows_of_head(const bf16* x, const AttentionDims& d, int64_t head) {
  const bf16* const at = x + head * d.tokens * kHeadDim;
  return {at, at, static_cast<int>(kHeadDim), 0};
}
GPU_INLINE HeadRows rows_of_head(const StreamRows<const bf16>& x, const AttentionDims& d, int64_t head) {
  const int64_t sample = head / d.heads, at = head % d.heads * kHeadDim, stride = d.heads * kHeadDim;
  return {x.first + sample * d.split * stride + at,
          x.second + (sample * (d.tokens - d.split) - d.split) * stride + at, static_cast<int>(stride),
          static_cast<int>(d.split)};
}
/// Starts copying positions [start, start + 64) to a tile; those from `end` on become zeros.
GPU_INLINE void copy_rows_to(unsigned char* tile, const HeadRows& rows, int start, int end) {
  const int chunk = threadIdx.x % 8;
#pragma unroll
  for (int i = 0; i < kTileRows * 8 / kThreads; ++i) {
    const int r = i * (kThreads / 8) + static_cast<int>(threadIdx.x) / 8, position = start + r;
    copy_async(chunk_at(tile, r, chunk), rows.at(position < end ? position : end - 1) + 8 * chunk,
               position < end);
  }
}
/// Reads the rows [start, start + 16) as left operands of the calling warp; zeros from `end` on.
GPU_INLINE void load_left(uint32_t (&left)[4][4], const HeadRows& rows, int start, int end) {
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int row = start + r * 8 + g;
    const bf16* const from = row < end ? rows.at(row) + 2 * t : nullptr;
#pragma unroll
    for (int step = 0; step < 4; ++step)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        left[step][2 * half + r] = from ? *reinterpret_cast<const uint32_t*>(from + 16 * step + 8 * half) : 0;
  }
}
/// A ring of kStages in shared memory, each with a pair of tiles. load(turn, tile) starts copying the pair of
/// a turn to tile(0) and tile(1), kAhead turns before it is needed: the products of the turn before may still
/// be running, those of the turn before that must not.
constexpr int kStages = 4, kAhead = 2;
constexpr int kRingBytes = kStages * 2 * kTileBytes;
template <class Load>
struct Ring {
  unsigned char* memory;
  int turns;
  Load load;

  GPU_INLINE unsigned char* tile(int turn, int which) const {
    return memory + (turn % kStages * 2 + which) * kTileBytes;
  }
  GPU_INLINE void load_or_nothing(int turn) const {
    if (turn < turns) load(turn, [&](int which) { return tile(turn, which); });
    commit_copies();
  }
  /// Before the first wait.
  GPU_INLINE void start() const {
    for (int turn = 0; turn < kAhead; ++turn) load_or_nothing(turn);
  }
  /// Waits for the pair of `turn`.
  GPU_INLINE void wait(int turn) const {
    wait_for_copies<kAhead - 1>();
    show_products();
    __syncthreads();
  }
  /// Once after wait(turn): starts copying a later pair. The best place is behind products of this turn,
  /// which run meanwhile.
  GPU_INLINE void load_ahead(int turn) const { load_or_nothing(turn + kAhead); }
};
}  // namespace orch::kernels::cuda
