// Images to rows of patches and back. The two feature orders are not inverses of each other (see kernels.h).
// One element per thread, in the order of the image.
#include "families.h"

namespace orch::kernels::cuda {
namespace {

constexpr int kThreads = 256;

/// The index in the rows [B * N, features] of element i of the image [B, C, H, W].
GPU_INLINE int64_t row_place(int64_t i, const PatchDims& d) {
  const int64_t p = d.patch, x = i % d.width, y = i / d.width % d.height,
                c = i / (d.width * d.height) % d.channels, b = i / (d.width * d.height * d.channels);
  const int64_t row = (b * (d.height / p) + y / p) * (d.width / p) + x / p;
  const int64_t feature =
      d.channel_fastest ? (y % p * p + x % p) * d.channels + c : (c * p + y % p) * p + x % p;
  return row * d.channels * p * p + feature;
}
/// Copies the image to the rows, or back.
template <bool ToRows, class Image, class Rows>
__global__ void __launch_bounds__(kThreads) copy(Image* image, Rows* rows, PatchDims d, int64_t n) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  if constexpr (ToRows)
    rows[row_place(i, d)] = narrow<Rows>(image[i]);
  else
    image[i] = widen(rows[row_place(i, d)]);
}
template <bool ToRows, class Image, class Rows>
void run(Image* image, Rows* rows, const PatchDims& d) {
  const int64_t n = d.samples * d.channels * d.height * d.width;
  launch(copy<ToRows, Image, Rows>, blocks(n, kThreads), kThreads, 0, image, rows, d, n);
}

}  // namespace

void fill_patch(Table& t) {
  t.each_type([]<class T>(Typed<T>& k) {
    k.to_patches = [](T* rows, const float* image, const PatchDims& d) { run<true>(image, rows, d); };
    k.from_patches = [](float* image, const T* rows, const PatchDims& d) { run<false>(image, rows, d); };
  });
}

}  // namespace orch::kernels::cuda
