// The gated residual connection of adaLN-zero, the addition of the position embedding, and sums over columns.
#include "families.h"

namespace orch::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kColumns = 8 * kWarp;  ///< columns per block in column sums
constexpr int kRowLanes = 8;         ///< row lanes of a block that sums over all rows

/// Eight channels per thread; 32-bit indices, because their divisions are cheap.
template <class R, class T>
__global__ void __launch_bounds__(kThreads)
    gate(R* out, const R* x, const T* y, const float* gates, StreamDims d, uint32_t n) {
  const uint32_t v = blockIdx.x * kThreads + threadIdx.x, vectors = static_cast<uint32_t>(d.width) / 8;
  if (v >= n) return;
  const uint32_t row = v / vectors, sample = row / static_cast<uint32_t>(d.tokens);
  const int64_t i = 8 * static_cast<int64_t>(v);
  float a[8], b[8], g[8];
  load8(a, x + i);
  load8(b, y + i);
  load8(g, gates + sample * d.mod_stride + 8 * (v - row * vectors));
#pragma unroll
  for (int j = 0; j < 8; ++j) a[j] += g[j] * b[j];
  store8(out + i, a);
}

/// Sums over the block's row lanes, in order; the threads of the first lane get the result.
GPU_INLINE void sum_row_lanes(float (&sum)[8]) {
  GPU_SHARED(memory);
  float* const all = reinterpret_cast<float*>(memory);
  const int lane = threadIdx.x % kWarp, row = threadIdx.x / kWarp;
  store8(all + row * kColumns + 8 * lane, sum);
  __syncthreads();
  if (row > 0) return;
  for (int r = 1; r < kRowLanes; ++r) {
    float other[8];
    load8(other, all + r * kColumns + 8 * lane);
#pragma unroll
    for (int j = 0; j < 8; ++j) sum[j] += other[j];
  }
}
constexpr size_t kSharedOfSums = sizeof(float) * kRowLanes * kColumns;

/// Rows [blockIdx.y * rows, ...) of sample blockIdx.z, one after the other; eight columns per thread.
template <class R, class T>
__global__ void __launch_bounds__(kThreads)
    gate_backward(T* dy, float* partial, const R* dout, const T* y, const float* gates, StreamDims d,
                  int64_t rows) {
  let_next_kernel_start();
  const int64_t column = 8 * (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x), sample = blockIdx.z;
  if (column >= d.width) return;
  float sum[8] = {}, g[8];
  load8(g, gates + sample * d.mod_stride + column);
  const int64_t start = blockIdx.y * rows, end = start + rows < d.tokens ? start + rows : d.tokens;
#pragma unroll 4
  for (int64_t n = start; n < end; ++n) {
    const int64_t at = (sample * d.tokens + n) * d.width + column;
    float o[8], e[8];
    load8(o, dout + at);
    load8(e, y + at);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      sum[j] += o[j] * e[j];
      o[j] *= g[j];
    }
    store8(dy + at, o);
  }
  store8(partial + (sample * gridDim.y + blockIdx.y) * d.width + column, sum);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    sum_columns(float* partial, const T* x, int64_t total, int64_t width, int64_t stride, int64_t rows) {
  let_next_kernel_start();
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kColumns + 8 * (threadIdx.x % kWarp);
  const bool whole = column + 8 <= width && stride % 8 == 0;
  const int64_t start = blockIdx.y * rows, end = start + rows < total ? start + rows : total;
  float sum[8] = {};
#pragma unroll 4
  for (int64_t n = start + threadIdx.x / kWarp; n < end; n += kRowLanes) {
    const T* at = x + n * stride + column;
    float e[8] = {};
    if (whole)
      load8(e, at);
    else
      for (int j = 0; j < 8 && column + j < width; ++j) e[j] = widen(at[j]);
#pragma unroll
    for (int j = 0; j < 8; ++j) sum[j] += e[j];
  }
  sum_row_lanes(sum);
  if (threadIdx.x < kWarp)
    for (int j = 0; j < 8 && column + j < width; ++j) partial[blockIdx.y * width + column + j] = sum[j];
}

/// One column per thread; kRowLanes chunks at a time.
__global__ void __launch_bounds__(kThreads)
    finish_chunks(SumOutputs outputs, const float* partial, int64_t chunks, int64_t width, int64_t columns) {
  GPU_SHARED(memory);
  let_next_kernel_start();
  wait_for_previous_kernel();
  float* const all = reinterpret_cast<float*>(memory);
  const int lane = threadIdx.x % kWarp, row = threadIdx.x / kWarp;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kWarp + lane, sample = blockIdx.y;
  float sum = 0;
  if (column < columns)
#pragma unroll 4
    for (int64_t c = row; c < chunks; c += kRowLanes)
      sum += partial[(sample * chunks + c) * columns + column];
  all[row * kWarp + lane] = sum;
  __syncthreads();
  if (row > 0 || column >= columns) return;
  for (int r = 1; r < kRowLanes; ++r) sum += all[r * kWarp + lane];
#pragma unroll
  for (int i = 0; i < 3; ++i)  // constant indices keep the outputs in registers
    if (column / width == i) outputs.each[i].to[sample * outputs.each[i].stride + column - i * width] = sum;
}

/// Rows per chunk: enough blocks to fill the device, and few partial sums. Depends on the shapes alone.
int64_t chunk_rows(int64_t rows) {
  const int64_t least = 64, most_chunks = 256;
  const int64_t n = (rows + most_chunks - 1) / most_chunks;
  return n < least ? least : (n + kRowLanes - 1) / kRowLanes * kRowLanes;
}

template <class R, class T>
void gate_residual(R* out, const R* x, const T* y, const float* gates, const StreamDims& d) {
  const int64_t n = d.samples * d.tokens * d.width / 8;
  launch(gate<R, T>, blocks(n, kThreads), kThreads, 0, out, x, y, gates, d, index32(n));
}

template <class R, class T>
void gate_residual_backward(T* dy, float* dgate, const R* dout, const T* y, const float* gates,
                            const StreamDims& d) {
  const int64_t rows = gradient_rows(d), chunks = blocks(d.tokens, rows);
  float* const partial = workspace<float>(d.samples * chunks * d.width);
  launch(gate_backward<R, T>,
         dim3(blocks(d.width, 8 * kThreads), static_cast<unsigned>(chunks), static_cast<unsigned>(d.samples)),
         kThreads, 0, dy, partial, dout, y, gates, d, rows);
  sum_chunks({{{dgate, d.mod_stride}}}, 1, partial, d.samples, chunks, d.width);
}

template <class T>
void column_sum(float* db, const T* dy, int64_t total, int64_t width, int64_t stride) {
  const int64_t rows = chunk_rows(total), chunks = (total + rows - 1) / rows;
  float* const partial = chunks > 1 ? workspace<float>(chunks * width) : db;
  launch(sum_columns<T>, dim3(blocks(width, kColumns), static_cast<unsigned>(chunks)), kThreads,
         kSharedOfSums, partial, dy, total, width, stride, rows);
  if (chunks > 1) sum_chunks({{{db, width}}}, 1, partial, 1, chunks, width);
}

template <class R, class T>
__global__ void __launch_bounds__(kThreads)
    positions(R* out, const T* x, const float* position, int64_t n, int64_t all) {
  const int64_t i = 8 * (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x);
  if (i >= all) return;
  if (n % 8 == 0) {
    float a[8], p[8];
    load8(a, x + i);
    load8(p, position + i % n);
#pragma unroll
    for (int j = 0; j < 8; ++j) a[j] += p[j];
    store8(out + i, a);
  } else {
    for (int64_t j = i; j < i + 8 && j < all; ++j) out[j] = narrow<R>(widen(x[j]) + position[j % n]);
  }
}
template <class R, class T>
void add_position(R* out, const T* x, const float* position, int64_t samples, int64_t tokens, int64_t width) {
  const int64_t n = tokens * width;
  launch(positions<R, T>, blocks(samples * n, 8 * kThreads), kThreads, 0, out, x, position, n, samples * n);
}

}  // namespace

int64_t gradient_rows(const StreamDims& d) {
  constexpr int64_t kBlocks = 512, kLeast = 4, kMost = 32;
  int64_t rows = kLeast;
  while (rows < kMost && d.samples * blocks(d.tokens, 2 * rows) >= kBlocks) rows *= 2;
  return rows;
}

void sum_chunks(const SumOutputs& outputs, int count, const float* partial, int64_t samples, int64_t chunks,
                int64_t width) {
  const int64_t columns = count * width;
  launch(true, finish_chunks, dim3(blocks(columns, kWarp), static_cast<unsigned>(samples)), kThreads,
         sizeof(float) * kRowLanes * kWarp, outputs, partial, chunks, width, columns);
}

void fill_gate(Table& t) {
  t.each_pair([]<class R, class T>(Residual<R, T>& k) {
    k.gate_residual = gate_residual<R, T>;
    k.gate_residual_backward = gate_residual_backward<R, T>;
    k.add_position = add_position<R, T>;
  });
  t.each_type([]<class T>(Typed<T>& k) { k.column_sum = column_sum<T>; });
}

}  // namespace orch::kernels::cuda
