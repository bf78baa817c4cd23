// Images to rows of patches and back. The two feature orders are not inverses of each other (see kernels.h).
// One element per thread, in the order of the output.
#include "families.h"

namespace orch::kernels::cuda {
namespace {

constexpr int kThreads = 256;

/// The index in the rows [B * N, features] of element i of the image [B, C, H, W].
GPU_INLINE int64_t row_place(int64_t i, const PatchDims& d, bool channel_fastest) {
  const int64_t p = d.patch, x = i % d.width, y = i / d.width % d.height,
                c = i / (d.width * d.height) % d.channels, b = i / (d.width * d.height * d.channels);
  const int64_t row = (b * (d.height / p) + y / p) * (d.width / p) + x / p;
  const int64_t feature =
      channel_fastest ? (y % p * p + x % p) * d.channels + c : (c * p + y % p) * p + x % p;
  return row * d.channels * p * p + feature;
}
/// The inverse of row_place.
GPU_INLINE int64_t picture_place(int64_t i, const PatchDims& d, bool channel_fastest) {
  const int64_t p = d.patch, features = d.channels * p * p, row = i / features, feature = i % features;
  const int64_t c = channel_fastest ? feature % d.channels : feature / (p * p);
  const int64_t inside = channel_fastest ? feature / d.channels : feature % (p * p);
  const int64_t columns = d.width / p, rows = d.height / p;
  const int64_t x = row % columns * p + inside % p, y = row / columns % rows * p + inside / p,
                b = row / (columns * rows);
  return ((b * d.channels + c) * d.height + y) * d.width + x;
}

template <class Out, class In>
__global__ void __launch_bounds__(kThreads)
    to_rows(Out* rows, const In* picture, PatchDims d, int64_t n, bool channel_fastest) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < n) rows[i] = narrow<Out>(widen(picture[picture_place(i, d, channel_fastest)]));
}
template <class Out, class In>
__global__ void __launch_bounds__(kThreads)
    to_picture(Out* picture, const In* rows, PatchDims d, int64_t n, bool channel_fastest) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < n) picture[i] = narrow<Out>(widen(rows[row_place(i, d, channel_fastest)]));
}

int64_t size(const PatchDims& d) { return d.samples * d.channels * d.height * d.width; }

}  // namespace

void fill_patch(Table& t) {
  t.each_type([]<class T>(Typed<T>& k) {
    k.patchify = [](T* out, const float* z, const PatchDims& d) {
      launch(to_rows<T, float>, blocks(size(d), kThreads), kThreads, 0, out, z, d, size(d), false);
    };
    k.patchify_backward = [](float* dz, const T* dout, const PatchDims& d) {
      launch(to_picture<float, T>, blocks(size(d), kThreads), kThreads, 0, dz, dout, d, size(d), false);
    };
  });
  t.raw.unpatchify = [](float* v, const float* x, const PatchDims& d) {
    launch(to_picture<float, float>, blocks(size(d), kThreads), kThreads, 0, v, x, d, size(d), true);
  };
  t.raw.unpatchify_backward = [](float* dx, const float* dv, const PatchDims& d) {
    launch(to_rows<float, float>, blocks(size(d), kThreads), kThreads, 0, dx, dv, d, size(d), true);
  };
}

}  // namespace orch::kernels::cuda
