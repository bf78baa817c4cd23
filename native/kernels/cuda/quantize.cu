// Quantization to 8-bit floats with one scale per tensor, taken from the tensor itself (core/float8.h). The
// first kernel finds the largest magnitude of each part of the tensor. Every block of the second one finds
// the largest of these, so that all of them use the same scale, and converts a tile; it is also stored
// transposed, because matmuls of 8-bit floats read both operands along the dimension that is summed. A maximum
// does not depend on its order, so the bits are the same in every run.
#include "../../core/float8.h"
#include "families.h"

namespace orch::kernels::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr int kLoads = 4;  ///< vectors of eight elements that a thread has in flight
constexpr unsigned kMostParts = 512;
// A tile is kTileRows rows of kTileColumns columns; each thread has kLoads vectors of it.
constexpr int kTileColumns = 64, kVectors = kTileColumns / 8, kRowStep = kThreads / kVectors,
              kTileRows = kRowStep * kLoads;
constexpr int kWords = kTileColumns / 4;  ///< 32-bit words in a row of a quantized tile
constexpr int kGroup = 8;                 ///< rows of a tile that are stored together when it is transposed
constexpr size_t kTileBytes = kTileRows * kTileColumns, kMostBytes = sizeof(uint32_t) * kWarps,
                 kSumsBytes = sizeof(float) * kRowStep * kTileColumns;
static_assert(kTileRows / kGroup * kWords == kThreads, "a thread transposes four columns of a group");

GPU_INLINE uint32_t larger(uint32_t a, uint32_t b) { return a > b ? a : b; }

/// The largest magnitude in the block, as bits of a float, in every thread. `shared` has kWarps words.
GPU_INLINE uint32_t most_of_block(uint32_t most, uint32_t* shared) {
#pragma unroll
  for (int mask = 1; mask < kWarp; mask *= 2) most = larger(most, as_bits(shuffle_xor(as_float(most), mask)));
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = most;
  __syncthreads();
  most = 0;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) most = larger(most, shared[i]);
  return most;
}

/// What is quantized: x itself, or gelu(x), rounded to bf16.
template <bool Gelu>
GPU_INLINE void apply(Pack<bf16>& pack) {
  if constexpr (Gelu) {
    float e[8];
    pack.widen(e);
#pragma unroll
    for (int j = 0; j < 8; ++j) e[j] = gelu_of<bf16>(e[j]);
    pack.narrow(e);
  }
}

/// partial[block]: the largest magnitude of the block's share of `count` vectors of eight elements.
template <bool Gelu>
__global__ void __launch_bounds__(kThreads) find_most(uint32_t* partial, const bf16* x, int64_t count) {
  GPU_SHARED(memory);
  // From the end to the start: the next kernel begins with what was read last, which still is in the L2
  // cache, as is what the kernel before has written last.
  const uint4* const last = reinterpret_cast<const uint4*>(x) + count - 1;
  uint32_t low = 0, high = 0;  // of the elements in the lower and the upper halves of words
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count; i += kLoads * stride) {
    Pack<bf16> pack[kLoads];
#pragma unroll
    for (int l = 0; l < kLoads; ++l)
      pack[l].v = i + l * stride < count ? last[-(i + l * stride)] : uint4{0, 0, 0, 0};
#pragma unroll
    for (int l = 0; l < kLoads; ++l) {
      apply<Gelu>(pack[l]);
      for (const uint32_t word : {pack[l].v.x, pack[l].v.y, pack[l].v.z, pack[l].v.w}) {
        low = larger(low, word & 0x7fffu);
        high = larger(high, word & 0x7fff0000u);
      }
    }
  }
  const uint32_t most = most_of_block(larger(low << 16, high), reinterpret_cast<uint32_t*>(memory));
  if (threadIdx.x == 0) partial[blockIdx.x] = most;
}

/// Two floats as 8-bit floats, the first in the lower byte.
template <class F>
GPU_INLINE uint32_t pack2_of(float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  uint16_t r;
  if constexpr (F::kType == DType::E4M3)
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(r) : "f"(high), "f"(low));
  else
    asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;" : "=h"(r) : "f"(high), "f"(low));
  return r;
#else
  return float8::from_float<F>(low) | static_cast<uint32_t>(float8::from_float<F>(high)) << 8;
#endif
}
template <class F>
GPU_INLINE uint32_t pack4_of(const float* x) {
  return pack2_of<F>(x[0], x[1]) | pack2_of<F>(x[2], x[3]) << 16;
}

/// Bytes of x (0 to 3) and y (4 to 7), chosen by the hexadecimal digits of `which`, the lowest first.
GPU_INLINE uint32_t choose_bytes(uint32_t x, uint32_t y, uint32_t which) {
#if defined(__CUDA_ARCH__)
  return __byte_perm(x, y, which);
#else
  const uint64_t both = static_cast<uint64_t>(y) << 32 | x;
  uint32_t r = 0;
  for (int i = 0; i < 4; ++i) r |= static_cast<uint32_t>(both >> 8 * (which >> 4 * i & 7) & 0xff) << 8 * i;
  return r;
#endif
}
/// From words that hold a row of four columns each to words that hold a column of four rows each.
GPU_INLINE void transpose_bytes(uint32_t (&to)[4], const uint32_t* rows) {
  const uint32_t a = choose_bytes(rows[0], rows[1], 0x5140), b = choose_bytes(rows[2], rows[3], 0x5140),
                 c = choose_bytes(rows[0], rows[1], 0x7362), d = choose_bytes(rows[2], rows[3], 0x7362);
  to[0] = choose_bytes(a, b, 0x5410);
  to[1] = choose_bytes(a, b, 0x7632);
  to[2] = choose_bytes(c, d, 0x5410);
  to[3] = choose_bytes(c, d, 0x7632);
}

/// A row of the tile in shared memory has its words in an order by its group, because the threads that
/// transpose read a column from all groups at a time: these are different banks.
GPU_INLINE int word_at(int row, int word) { return row * kWords + (word ^ (row / kGroup)); }

struct Matrix {
  const bf16* x;
  int64_t rows, width;
  int64_t stride;  ///< of the transposed rows: `rows`, rounded up
};

/// One tile. Rows after the last one are zeros. `sums`: by tile, the sums of its columns in fp32.
template <class F, bool Gelu, bool Sums>
__global__ void __launch_bounds__(kThreads)
    quantize_tile(Quantized to, float* sums, Matrix m, const uint32_t* partial, int parts) {
  GPU_SHARED(memory);
  uint32_t* const tile = reinterpret_cast<uint32_t*>(memory);
  const int vector = threadIdx.x % kVectors, first = threadIdx.x / kVectors;
  const int64_t top = static_cast<int64_t>(blockIdx.y) * kTileRows,
                left = static_cast<int64_t>(blockIdx.x) * kTileColumns, column = left + 8 * vector;
  Pack<bf16> pack[kLoads];
#pragma unroll
  for (int l = 0; l < kLoads; ++l) {
    const int64_t row = top + first + l * kRowStep;
    pack[l].v = uint4{0, 0, 0, 0};
    if (row < m.rows && column < m.width) pack[l].load(m.x + row * m.width + column);
  }
  uint32_t most = 0;
  for (int i = threadIdx.x; i < parts; i += kThreads) most = larger(most, partial[i]);
  const float8::Scale scale =
      float8::scale_for<F>(most_of_block(most, reinterpret_cast<uint32_t*>(memory + kTileBytes)));
  if (blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0) *to.inverse = scale.inverse;

  float sum[8] = {};
#pragma unroll
  for (int l = 0; l < kLoads; ++l) {
    const int row = first + l * kRowStep;
    float e[8];
    apply<Gelu>(pack[l]);
    pack[l].widen(e);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      if constexpr (Sums) sum[j] += e[j];
      e[j] *= scale.factor;
    }
    const uint2 bytes{pack4_of<F>(e), pack4_of<F>(e + 4)};
    if (top + row < m.rows && column < m.width)
      *reinterpret_cast<uint2*>(to.values + (top + row) * m.width + column) = bytes;
    tile[word_at(row, 2 * vector)] = bytes.x;
    tile[word_at(row, 2 * vector + 1)] = bytes.y;
  }
  float* const columns = reinterpret_cast<float*>(memory + kTileBytes + kMostBytes);
  if constexpr (Sums)
#pragma unroll
    for (int j = 0; j < 8; ++j) columns[first * kTileColumns + 8 * vector + j] = sum[j];
  __syncthreads();

  if (to.transposed) {
    const int group = threadIdx.x % (kTileRows / kGroup), word = threadIdx.x / (kTileRows / kGroup);
    uint32_t rows[kGroup], upper[4], lower[4];
#pragma unroll
    for (int i = 0; i < kGroup; ++i) rows[i] = tile[word_at(group * kGroup + i, word)];
    transpose_bytes(upper, rows);
    transpose_bytes(lower, rows + 4);
    const int64_t row = top + group * kGroup;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int64_t at = left + 4 * word + j;
      if (at < m.width && row < m.stride)
        *reinterpret_cast<uint2*>(to.transposed + at * m.stride + row) = uint2{upper[j], lower[j]};
    }
  }
  if constexpr (Sums) {
    if (threadIdx.x >= kTileColumns || left + threadIdx.x >= m.width) return;
    float total = 0;
    for (int i = 0; i < kRowStep; ++i) total += columns[i * kTileColumns + threadIdx.x];
    sums[blockIdx.y * m.width + left + threadIdx.x] = total;
  }
}

template <class F, bool Gelu, bool Sums>
void quantize(const Quantized& to, float* sums, const bf16* x, int64_t rows, int64_t width) {
  const int64_t vectors = rows * width / 8, tiles = (rows + kTileRows - 1) / kTileRows;
  const unsigned wanted = blocks(vectors, kThreads * kLoads), parts = wanted < kMostParts ? wanted : kMostParts;
  float* const of_tiles = workspace<float>(kMostParts + (Sums ? tiles * width : 0)) + kMostParts;
  uint32_t* const partial = reinterpret_cast<uint32_t*>(of_tiles) - kMostParts;
  launch(find_most<Gelu>, parts, kThreads, kMostBytes, partial, x, vectors);
  launch(quantize_tile<F, Gelu, Sums>, dim3(blocks(width, kTileColumns), static_cast<unsigned>(tiles)), kThreads,
         kTileBytes + kMostBytes + (Sums ? kSumsBytes : 0), to, of_tiles,
         Matrix{x, rows, width, (rows + 15) / 16 * 16}, partial, static_cast<int>(parts));
  if (Sums) sum_chunks({{{sums, width}}}, 1, of_tiles, 1, tiles, width);
}
template <class F>
void quantize_to(const Quantized& to, float* sums, const bf16* x, int64_t rows, int64_t width) {
  (sums ? quantize<F, false, true> : quantize<F, false, false>)(to, sums, x, rows, width);
}

}  // namespace

void fill_quantize(Table& t) {
  t.raw.quantize = [](const Quantized& to, float* sums, const bf16* x, int64_t rows, int64_t width, DType format) {
    (format == DType::E4M3 ? quantize_to<E4M3> : quantize_to<E5M2>)(to, sums, x, rows, width);
  };
  t.raw.quantize_gelu = [](const Quantized& to, const bf16* x, int64_t rows, int64_t width) {
    quantize<E4M3, true, false>(to, nullptr, x, rows, width);
  };
}

}  // namespace orch::kernels::cuda
