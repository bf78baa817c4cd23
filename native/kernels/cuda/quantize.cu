// Quantization to 8-bit floats with one scale per tensor, taken from the tensor itself (core/float8.h). Where the
// kernel that wrote the tensor has not found its largest magnitude, a kernel does it first. The next one converts
// tiles; they are also stored transposed, because matmuls of 8-bit floats read both operands along the dimension
// that is summed. A maximum does not depend on its order, so the bits are the same in every run.
#include "../../core/float8.h"
#include "amax.h"
#include "families.h"

namespace orch::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kLoads = 4;  ///< vectors of eight elements that a thread has in flight
/// Most blocks that look for the largest magnitude: as many as a GPU of 132 SMs runs at a time.
constexpr unsigned kMostBlocks = 1056;
// A tile is kTileRows rows of kTileColumns columns; each thread has kLoads vectors of it.
constexpr int kTileColumns = 64, kVectors = kTileColumns / 8, kRowStep = kThreads / kVectors,
              kTileRows = kRowStep * kLoads;
constexpr int kWords = kTileColumns / 4;  ///< 32-bit words in a row of a quantized tile
constexpr int kGroup = 8;                 ///< rows of a tile that are stored together when it is transposed
constexpr int kGroups = kTileRows / kGroup;
/// Words after a group of rows in shared memory. So the threads that transpose, which read a row of two words
/// from all groups at a time, and those that write two rows at a time, access different banks.
constexpr int kGap = 2;
constexpr size_t kTileBytes = sizeof(uint32_t) * (kTileRows * kWords + kGroups * kGap),
                 kSumsBytes = sizeof(float) * kRowStep * kTileColumns;
static_assert(kGroups * kWords == kThreads, "a thread transposes four columns of a group");

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

/// Whether gelu() of an element may have a larger magnitude than `known` (bits of a float), or be NaN. It is not
/// above x for x >= 0, and between -0.171 and 0 otherwise.
GPU_INLINE bool may_exceed(const Pack<bf16>& x, uint32_t known) {
  constexpr uint32_t kQuarter = 0x3e800000u, kHundred = 0x42c80000u;
  uint32_t largest = 0;
  for (const uint32_t word : {x.v.x, x.v.y, x.v.z, x.v.w}) largest = max_signed_halves(largest, word);
  Largest magnitudes;
  magnitudes.see(x);
  return larger_half(largest) > known || known < kQuarter || magnitudes.bits() > kHundred;
}

/// *word, which other blocks raise meanwhile.
GPU_INLINE uint32_t read_now(const uint32_t* word) { return *static_cast<const volatile uint32_t*>(word); }

/// Raises *amax to the largest magnitude of `count` vectors of eight elements. GELU is computed only where it may
/// be larger than what blocks have found before: of the first vectors, and then seldom.
template <bool Gelu>
__global__ void __launch_bounds__(kThreads) find_amax(uint32_t* amax, const bf16* x, int64_t count) {
  GPU_SHARED(memory);
  let_next_kernel_start();
  // From the end to the start: the next kernel begins with what was read last, which still is in the L2
  // cache, as is what the kernel before has written last.
  const uint4* const last = reinterpret_cast<const uint4*>(x) + count - 1;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  Pack<bf16> pack[kLoads];
  Largest largest;
  uint32_t known = 0;
  const auto load = [&] {
#pragma unroll
    for (int l = 0; l < kLoads; ++l)
      pack[l].v = i + l * stride < count ? last[-(i + l * stride)] : uint4{0, 0, 0, 0};
  };
  const auto see = [&](int l) {
    if (Gelu && !may_exceed(pack[l], known)) return;
    apply<Gelu>(pack[l]);
    largest.see(pack[l]);
  };
  if constexpr (Gelu) {
    load();
    see(0);
    raise_amax(amax, largest, memory);
    known = read_now(amax);
#pragma unroll
    for (int l = 1; l < kLoads; ++l) see(l);
    i += kLoads * stride;
  }
  for (; i < count; i += kLoads * stride) {
    if constexpr (Gelu) known = read_now(amax);
    load();
#pragma unroll
    for (int l = 0; l < kLoads; ++l) see(l);
  }
  raise_amax(amax, largest, memory + kAmaxBytes);
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

GPU_INLINE int word_at(int row, int word) { return row * kWords + row / kGroup * kGap + word; }

struct Matrix {
  const bf16* x;
  int64_t rows, width;
  int64_t stride;  ///< of the transposed rows: `rows`, rounded up
  bool found;      ///< Amax::found: the first blocks then have the last rows, which were written last
};

/// Stores the tile's words of rows, by columns.
GPU_INLINE void store_transposed(uint8_t* to, const uint32_t* tile, const Matrix& m, int64_t top,
                                 int64_t left) {
  const int group = threadIdx.x % kGroups, word = threadIdx.x / kGroups;
  const uint32_t* const from = tile + word_at(group * kGroup, word);
  uint32_t rows[kGroup], upper[4], lower[4];
#pragma unroll
  for (int i = 0; i < kGroup; ++i) rows[i] = from[i * kWords];
  transpose_bytes(upper, rows);
  transpose_bytes(lower, rows + 4);
  const int64_t row = top + group * kGroup;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const int64_t at = left + 4 * word + j;
    if (at < m.width && row < m.stride)
      *reinterpret_cast<uint2*>(to + at * m.stride + row) = uint2{upper[j], lower[j]};
  }
}

/// One tile. Rows after the last one are zeros. `sums`: by tile, the sums of its columns in fp32.
template <class F, bool Gelu, bool Sums>
__global__ void __launch_bounds__(kThreads)
    quantize_tile(Quantized to, float* sums, Matrix m, const uint32_t* amax) {
  GPU_SHARED(memory);
  let_next_kernel_start();
  uint32_t* const tile = reinterpret_cast<uint32_t*>(memory);
  const int vector = threadIdx.x % kVectors, first = threadIdx.x / kVectors;
  const unsigned tile_row = m.found ? gridDim.y - 1 - blockIdx.y : blockIdx.y;
  const int64_t top = static_cast<int64_t>(tile_row) * kTileRows,
                left = static_cast<int64_t>(blockIdx.x) * kTileColumns, column = left + 8 * vector;
  if (m.found) wait_for_previous_kernel();  // it may have written x
  Pack<bf16> pack[kLoads];
#pragma unroll
  for (int l = 0; l < kLoads; ++l) {
    const int64_t row = top + first + l * kRowStep;
    pack[l].v = uint4{0, 0, 0, 0};
    if (row < m.rows && column < m.width) pack[l].load(m.x + row * m.width + column);
  }
  wait_for_previous_kernel();  // find_amax, before which x was written
  const float8::Scale scale = float8::scale_for<F>(read_now(amax));
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
    *reinterpret_cast<uint2*>(tile + word_at(row, 2 * vector)) = bytes;
  }
  float* const columns = reinterpret_cast<float*>(memory + kTileBytes);
  if constexpr (Sums) store8(columns + first * kTileColumns + 8 * vector, sum);
  __syncthreads();
  if (to.transposed) store_transposed(to.transposed, tile, m, top, left);
  if constexpr (Sums) {
    if (threadIdx.x >= kTileColumns || left + threadIdx.x >= m.width) return;
    float total = 0;
#pragma unroll
    for (int i = 0; i < kRowStep; ++i) total += columns[i * kTileColumns + threadIdx.x];
    sums[tile_row * m.width + left + threadIdx.x] = total;
  }
}

template <class F, bool Gelu, bool Sums>
void quantize(const Quantized& to, float* sums, const bf16* x, const Amax& amax, int64_t rows, int64_t width) {
  const int64_t vectors = rows * width / 8, tiles = (rows + kTileRows - 1) / kTileRows;
  float* const of_tiles = Sums ? workspace<float>(tiles * width) : nullptr;
  if (!amax.found) {
    const unsigned wanted = blocks(vectors, kThreads * kLoads);
    launch(find_amax<Gelu>, wanted < kMostBlocks ? wanted : kMostBlocks, kThreads, 2 * kAmaxBytes, amax.bits,
           x, vectors);
  }
  launch(true, quantize_tile<F, Gelu, Sums>,
         dim3(blocks(width, kTileColumns), static_cast<unsigned>(tiles)), kThreads,
         kTileBytes + (Sums ? kSumsBytes : 0), to, of_tiles,
         Matrix{x, rows, width, (rows + 15) / 16 * 16, amax.found}, amax.bits);
  if (Sums) sum_chunks({{{sums, width}}}, 1, of_tiles, 1, tiles, width);
}
template <class F>
void quantize_to(const Quantized& to, float* sums, const bf16* x, const Amax& amax, int64_t rows,
                 int64_t width) {
  (sums ? quantize<F, false, true> : quantize<F, false, false>)(to, sums, x, amax, rows, width);
}

}  // namespace

void fill_quantize(Table& t) {
  t.raw.quantize = [](const Quantized& to, float* sums, const bf16* x, const Amax& amax, int64_t rows,
                      int64_t width, DType format) {
    (format == DType::E4M3 ? quantize_to<E4M3> : quantize_to<E5M2>)(to, sums, x, amax, rows, width);
  };
  t.raw.quantize_gelu = [](const Quantized& to, const bf16* x, const Amax& amax, int64_t rows, int64_t width) {
    quantize<E4M3, true, false>(to, nullptr, x, amax, rows, width);
  };
}

}  // namespace orch::kernels::cuda
