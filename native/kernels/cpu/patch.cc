// Images to rows of patches and back. The two feature orders are not inverses of each other (see kernels.h).
#include "families.h"

namespace orch::kernels::ORCH_ISA {
namespace {

/// Calls visit(index in the image, index in the rows) for every element.
template <class Visit>
ORCH_INLINE void for_each_element(const PatchDims& d, Visit visit) {
  const int64_t p = d.patch, rows = d.height / p, columns = d.width / p, features = d.channels * p * p;
  const int64_t of_pixel = d.channel_fastest ? d.channels : 1, of_channel = d.channel_fastest ? 1 : p * p;
  for (int64_t b = 0; b < d.samples; ++b) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < columns; ++c) {
        const int64_t row = ((b * rows + r) * columns + c) * features;
        for (int64_t channel = 0; channel < d.channels; ++channel) {
          const int64_t plane = ((b * d.channels + channel) * d.height + r * p) * d.width + c * p;
          for (int64_t y = 0; y < p; ++y) {
            for (int64_t x = 0; x < p; ++x) {
              visit(plane + y * d.width + x, row + (y * p + x) * of_pixel + channel * of_channel);
            }
          }
        }
      }
    }
  }
}

}  // namespace

void fill_patch(Table& t) {
  t.each_type([]<class T>(Typed<T>& k) {
    k.to_patches = [](T* rows, const float* image, const PatchDims& d) {
      for_each_element(d,
                       [=](int64_t pixel, int64_t at) { store_exact_n(rows + at, splat(image[pixel]), 1); });
    };
    k.from_patches = [](float* image, const T* rows, const PatchDims& d) {
      for_each_element(d, [=](int64_t pixel, int64_t at) { image[pixel] = widen(rows[at]); });
    };
  });
}

}  // namespace orch::kernels::ORCH_ISA
