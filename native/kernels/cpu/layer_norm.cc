// LayerNorm without affine parameters, followed by adaLN's modulation; forward and backward. Widths are
// multiples of 64.
#include "families.h"

namespace orch::kernels::ORCH_ISA {
namespace {

constexpr float kEps = 1e-6f;

/// `Rows` rows at once: their chains of additions overlap, and they share the loads of shift and scale.
template <int Rows, class R, class T>
ORCH_INLINE void normalize_rows(T* y, float* mean, float* rstd, const R* x, const float* shift,
                                const float* scale, int64_t width) {
  const float inverse = 1.0f / static_cast<float>(width);
  vf mu[Rows], factor[Rows];
  vf sum[Rows][2] = {};
  for (int64_t i = 0; i < width; i += 2 * kLanes) {
    for (int r = 0; r < Rows; ++r) {
      sum[r][0] += load(x + r * width + i);
      sum[r][1] += load(x + r * width + i + kLanes);
    }
  }
  for (int r = 0; r < Rows; ++r) {
    mean[r] = sum_lanes(sum[r][0] + sum[r][1]) * inverse;
    mu[r] = splat(mean[r]);
    sum[r][0] = sum[r][1] = vf{};
  }
  for (int64_t i = 0; i < width; i += 2 * kLanes) {
    for (int r = 0; r < Rows; ++r) {
      const vf a = load(x + r * width + i) - mu[r], b = load(x + r * width + i + kLanes) - mu[r];
      sum[r][0] += a * a;
      sum[r][1] += b * b;
    }
  }
  for (int r = 0; r < Rows; ++r) {
    rstd[r] = 1.0f / __builtin_sqrtf(sum_lanes(sum[r][0] + sum[r][1]) * inverse + kEps);
    factor[r] = splat(rstd[r]);
  }
  for (int64_t i = 0; i < width; i += 2 * kLanes) {
    const vf sc0 = splat(1.0f) + load(scale + i), sc1 = splat(1.0f) + load(scale + i + kLanes);
    const vf sh0 = load(shift + i), sh1 = load(shift + i + kLanes);
    for (int r = 0; r < Rows; ++r) {
      const R* xr = x + r * width + i;
      store2(y + r * width + i, (load(xr) - mu[r]) * factor[r] * sc0 + sh0,
             (load(xr + kLanes) - mu[r]) * factor[r] * sc1 + sh1);
    }
  }
}

template <class R, class T>
void layer_norm_modulate(T* y, float* mean, float* rstd, const R* x, const float* shift, const float* scale,
                         const StreamDims& d) {
  constexpr int kTogether = 4;
  const int64_t width = d.width;
  for (int64_t b = 0; b < d.samples; ++b) {
    const float* sh = shift + b * d.mod_stride;
    const float* sc = scale + b * d.mod_stride;
    int64_t row = b * d.tokens;
    const int64_t end = row + d.tokens;
    for (; row + kTogether <= end; row += kTogether) {
      normalize_rows<kTogether>(y + row * width, mean + row, rstd + row, x + row * width, sh, sc, width);
    }
    for (; row < end; ++row) {
      normalize_rows<1>(y + row * width, mean + row, rstd + row, x + row * width, sh, sc, width);
    }
  }
}

/// `Rows` rows at once, as above; adds to dshift and dscale.
template <int Rows, class R, class T>
ORCH_INLINE void backward_rows(R* dx, const R* dx_add, float* dshift, float* dscale, const T* dy, const R* x,
                               const float* mean, const float* rstd, const float* scale, int64_t width) {
  const float inverse = 1.0f / static_cast<float>(width);
  vf mu[Rows], factor[Rows], sum[Rows] = {}, dot[Rows] = {};
  for (int r = 0; r < Rows; ++r) {
    mu[r] = splat(mean[r]);
    factor[r] = splat(rstd[r]);
  }
  for (int64_t i = 0; i < width; i += kLanes) {
    const vf sc = splat(1.0f) + load(scale + i);
    vf shift_sum = load(dshift + i), scale_sum = load(dscale + i);
    for (int r = 0; r < Rows; ++r) {
      const vf xhat = (load(x + r * width + i) - mu[r]) * factor[r], g = load(dy + r * width + i);
      shift_sum += g;
      scale_sum += g * xhat;
      sum[r] += g * sc;
      dot[r] += g * sc * xhat;
    }
    store(dshift + i, shift_sum);
    store(dscale + i, scale_sum);
  }
  for (int r = 0; r < Rows; ++r) {
    sum[r] = splat(sum_lanes(sum[r]) * inverse);
    dot[r] = splat(sum_lanes(dot[r]) * inverse);
  }
  const auto gradient = [&](int r, int64_t i) __attribute__((always_inline)) {
    const int64_t at = r * width + i;
    const vf xhat = (load(x + at) - mu[r]) * factor[r];
    const vf g = factor[r] * (load(dy + at) * (splat(1.0f) + load(scale + i)) - sum[r] - xhat * dot[r]);
    return dx_add ? g + load(dx_add + at) : g;
  };
  for (int64_t i = 0; i < width; i += 2 * kLanes) {
    for (int r = 0; r < Rows; ++r) store2(dx + r * width + i, gradient(r, i), gradient(r, i + kLanes));
  }
}

template <class R, class T>
void layer_norm_modulate_backward(R* dx, const R* dx_add, float* dshift, float* dscale, const T* dy,
                                  const R* x, const float* mean, const float* rstd, const float* scale,
                                  const StreamDims& d) {
  constexpr int kTogether = 4;
  const int64_t width = d.width;
  for (int64_t b = 0; b < d.samples; ++b) {
    const float* sc = scale + b * d.mod_stride;
    float* dsh = dshift + b * d.mod_stride;
    float* dsc = dscale + b * d.mod_stride;
    std::memset(dsh, 0, static_cast<size_t>(width) * 4);
    std::memset(dsc, 0, static_cast<size_t>(width) * 4);
    const auto rows = [&]<int Rows>(int64_t row) __attribute__((always_inline)) {
      const int64_t at = row * width;
      backward_rows<Rows>(dx + at, dx_add ? dx_add + at : nullptr, dsh, dsc, dy + at, x + at, mean + row,
                          rstd + row, sc, width);
    };
    int64_t row = b * d.tokens;
    const int64_t end = row + d.tokens;
    for (; row + kTogether <= end; row += kTogether) rows.template operator()<kTogether>(row);
    for (; row < end; ++row) rows.template operator()<1>(row);
  }
}

template <class R, class T>
void fill(Residual<R, T>& t) {
  t.layer_norm_modulate = layer_norm_modulate<R, T>;
  t.layer_norm_modulate_backward = layer_norm_modulate_backward<R, T>;
}

}  // namespace

void fill_layer_norm(Table& t) {
  fill<float, float>(t.f32);
  fill<bf16, bf16>(t.b16);
  fill<float, bf16>(t.mixed);
}

}  // namespace orch::kernels::ORCH_ISA
