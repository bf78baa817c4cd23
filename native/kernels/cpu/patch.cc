// Images to rows of patches and back. The two feature orders are not inverses of each other (see kernels.h).
#include "families.h"

namespace orch::kernels::ORCH_ISA {
namespace {

/// Calls visit(index in the image, index in the rows) for every element; `channel_fastest` selects the order
/// (ph, pw, c).
template <bool channel_fastest, class Visit>
ORCH_INLINE void for_each_element(const PatchDims& d, Visit visit) {
  const int64_t p = d.patch, rows = d.height / p, columns = d.width / p, features = d.channels * p * p;
  for (int64_t b = 0; b < d.samples; ++b) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < columns; ++c) {
        const int64_t row = ((b * rows + r) * columns + c) * features;
        for (int64_t channel = 0; channel < d.channels; ++channel) {
          const int64_t plane = ((b * d.channels + channel) * d.height + r * p) * d.width + c * p;
          for (int64_t y = 0; y < p; ++y) {
            for (int64_t x = 0; x < p; ++x) {
              const int64_t feature =
                  channel_fastest ? (y * p + x) * d.channels + channel : (channel * p + y) * p + x;
              visit(plane + y * d.width + x, row + feature);
            }
          }
        }
      }
    }
  }
}

template <class T>
void patchify(T* out, const float* z, const PatchDims& d) {
  for_each_element<false>(
      d, [=](int64_t picture, int64_t row) { store_exact_n(out + row, splat(z[picture]), 1); });
}
template <class T>
void patchify_backward(float* dz, const T* dout, const PatchDims& d) {
  for_each_element<false>(d, [=](int64_t picture, int64_t row) { dz[picture] = widen(dout[row]); });
}
void unpatchify(float* v, const float* x, const PatchDims& d) {
  for_each_element<true>(d, [=](int64_t picture, int64_t row) { v[picture] = x[row]; });
}
void unpatchify_backward(float* dx, const float* dv, const PatchDims& d) {
  for_each_element<true>(d, [=](int64_t picture, int64_t row) { dx[row] = dv[picture]; });
}

}  // namespace

void fill_patch(Table& t) {
  t.each_type([]<class T>(Typed<T>& k) {
    k.patchify = patchify<T>;
    k.patchify_backward = patchify_backward<T>;
  });
  t.raw.unpatchify = unpatchify;
  t.raw.unpatchify_backward = unpatchify_backward;
}

}  // namespace orch::kernels::ORCH_ISA
