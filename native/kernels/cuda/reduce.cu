// The loss, norms, and the search for non-finite values: sums in double, in an order that depends on the
// shapes alone.
#include <vector>

#include "../digest.h"
#include "families.h"

namespace orch::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kLossChunk = 4096;
constexpr unsigned kMostBlocks = 1024;

/// Sums over the block; the first thread gets the result.
GPU_INLINE double sum_block(double x) {
  GPU_SHARED(memory);
  double* const all = reinterpret_cast<double*>(memory);
  all[threadIdx.x] = x;
  __syncthreads();
  for (unsigned half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) all[threadIdx.x] += all[threadIdx.x + half];
    __syncthreads();
  }
  return all[0];
}

__global__ void __launch_bounds__(kThreads) errors(double* partial, float* dv, const float* v,
                                                   const float* target, const float* grad_scale, int64_t n) {
  const int64_t sample = blockIdx.y, base = sample * n, start = blockIdx.x * kLossChunk;
  const float factor = dv ? grad_scale[sample] * 2.0f / static_cast<float>(n) : 0.0f;
  double sum = 0;
  for (int64_t i = start + threadIdx.x; i < start + kLossChunk && i < n; i += kThreads) {
    const float e = v[base + i] - target[base + i];
    sum += static_cast<double>(e) * static_cast<double>(e);
    if (dv) dv[base + i] = factor * e;
  }
  sum = sum_block(sum);
  if (threadIdx.x == 0) partial[sample * gridDim.x + blockIdx.x] = sum;
}
__global__ void mean_errors(float* loss, const double* partial, int64_t chunks, int64_t samples, int64_t n) {
  const int64_t sample = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (sample >= samples) return;
  double sum = 0;
  for (int64_t i = 0; i < chunks; ++i) sum += partial[sample * chunks + i];
  loss[sample] = static_cast<float>(sum / static_cast<double>(n));
}
void mse(float* loss, float* dv, const float* v, const float* target, const float* grad_scale,
         int64_t samples, int64_t n) {
  const int64_t chunks = (n + kLossChunk - 1) / kLossChunk;
  double* partial = workspace<double>(samples * chunks);
  launch(errors, dim3(static_cast<unsigned>(chunks), static_cast<unsigned>(samples)), kThreads,
         sizeof(double) * kThreads, partial, dv, v, target, grad_scale, n);
  launch(mean_errors, blocks(samples, kThreads), kThreads, 0, loss, partial, chunks, samples, n);
}

unsigned strided_blocks(int64_t n) {
  const unsigned all = blocks(n, 4 * kThreads);
  return all < kMostBlocks ? all : kMostBlocks;
}

__global__ void __launch_bounds__(kThreads) squares(double* partial, const float* x, int64_t n) {
  double sum = 0;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads * 4;
  for (int64_t i = 4 * (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x); i < n; i += stride) {
    if (i + 4 <= n) {
      const float4 e = *reinterpret_cast<const float4*>(x + i);
      // The products are exact; four are added before the long sum.
      sum += (static_cast<double>(e.x) * e.x + static_cast<double>(e.y) * e.y) +
             (static_cast<double>(e.z) * e.z + static_cast<double>(e.w) * e.w);
    } else {
      for (int64_t j = i; j < n; ++j) sum += static_cast<double>(x[j]) * x[j];
    }
  }
  sum = sum_block(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}
__global__ void __launch_bounds__(kThreads) add_partial(double* sum, const double* partial, int64_t n) {
  double mine = 0;
  for (int64_t i = threadIdx.x; i < n; i += kThreads) mine += partial[i];
  mine = sum_block(mine);
  if (threadIdx.x == 0) *sum += mine;
}
void add_squares(double* sum, const float* x, int64_t n) {
  const unsigned count = strided_blocks(n);
  double* partial = workspace<double>(count);
  launch(squares, count, kThreads, sizeof(double) * kThreads, partial, x, n);
  launch(add_partial, 1, kThreads, sizeof(double) * kThreads, sum, partial, count);
}

__global__ void __launch_bounds__(kThreads) not_finite(int64_t* first, const float* x, int64_t n) {
  GPU_SHARED(memory);
  int64_t* const all = reinterpret_cast<int64_t*>(memory);
  int64_t found = n;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < n && found == n;
       i += static_cast<int64_t>(gridDim.x) * kThreads)
    if (!(fabsf(x[i]) <= 3.4028235e38f)) found = i;
  all[threadIdx.x] = found;
  __syncthreads();
  if (threadIdx.x > 0) return;
  for (int t = 1; t < kThreads; ++t)
    if (all[t] < found) found = all[t];
  first[blockIdx.x] = found;
}
int64_t first_non_finite(const float* x, int64_t n) {
  const unsigned count = strided_blocks(n);
  std::vector<int64_t> found(count, n);
  int64_t* on_device = workspace<int64_t>(count);
  launch(not_finite, count, kThreads, sizeof(int64_t) * kThreads, on_device, x, n);
  download(found.data(), on_device, sizeof(int64_t) * count);
  int64_t first = n;
  for (int64_t f : found) first = f < first ? f : first;
  return first < n ? first : -1;
}

/// One thread per lane of each piece: the four lanes of a piece read one sector together.
__global__ void __launch_bounds__(kThreads) digest_lanes(uint64_t* lanes, const float* x, int64_t n) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, piece = at / kDigestLanes;
  if (piece >= digest_pieces(n)) return;
  const int lane = static_cast<int>(at % kDigestLanes);
  const int64_t from = piece * kDigestPiece, words = (n - from < kDigestPiece ? n - from : kDigestPiece) / 2;
  const uint64_t* const word = reinterpret_cast<const uint64_t*>(x + from);
  uint64_t state = digest_start(lane);
  for (int64_t i = lane; i < words; i += kDigestLanes) state = digest_step(state, word[i]);
  lanes[at] = state;
}
void digest(uint64_t* lanes, const float* x, int64_t n) {
  launch(digest_lanes, blocks(digest_pieces(n) * kDigestLanes, kThreads), kThreads, 0, lanes, x, n);
}

}  // namespace

void fill_reduce(Table& t) {
  t.raw.mse = mse;
  t.raw.add_squares = add_squares;
  t.raw.first_non_finite = first_non_finite;
  t.raw.digest = digest;
}

}  // namespace orch::kernels::cuda
