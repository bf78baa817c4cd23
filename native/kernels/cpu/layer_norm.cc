// LayerNorm without affine parameters, followed by adaLN's modulation; forward and backward. Widths are
// multiples of 64.
#include "families.h"

namespace orch::kernels::ORCH_ISA {
namespace {

constexpr float kEps = 1e-6f;

template <class R, class T>
void layer_norm_modulate(T* y, float* mean, float* rstd, const R* x, const float* shift, const float* scale,
                         const StreamDims& d) {
  const int64_t width = d.width;
  const float inverse = 1.0f / static_cast<float>(width);
  for (int64_t b = 0; b < d.samples; ++b) {
    const float* sh = shift + b * d.mod_stride;
    const float* sc = scale + b * d.mod_stride;
    for (int64_t n = 0; n < d.tokens; ++n) {
      const int64_t row = b * d.tokens + n;
      const R* xr = x + row * width;
      T* yr = y + row * width;
      vf s0 = {}, s1 = {}, s2 = {}, s3 = {};
      for (int64_t i = 0; i < width; i += 4 * kLanes) {
        s0 += load(xr + i);
        s1 += load(xr + i + kLanes);
        s2 += load(xr + i + 2 * kLanes);
        s3 += load(xr + i + 3 * kLanes);
      }
      const float mu = sum_lanes((s0 + s1) + (s2 + s3)) * inverse;
      const vf vmu = splat(mu);
      s0 = s1 = s2 = s3 = vf{};
      for (int64_t i = 0; i < width; i += 4 * kLanes) {
        const vf a = load(xr + i) - vmu, c = load(xr + i + kLanes) - vmu;
        const vf e = load(xr + i + 2 * kLanes) - vmu, f = load(xr + i + 3 * kLanes) - vmu;
        s0 += a * a;
        s1 += c * c;
        s2 += e * e;
        s3 += f * f;
      }
      const float r = 1.0f / __builtin_sqrtf(sum_lanes((s0 + s1) + (s2 + s3)) * inverse + kEps);
      mean[row] = mu;
      rstd[row] = r;
      const vf vr = splat(r), one = splat(1.0f);
      for (int64_t i = 0; i < width; i += kLanes) {
        store(yr + i, (load(xr + i) - vmu) * vr * (one + load(sc + i)) + load(sh + i));
      }
    }
  }
}

template <class R, class T>
void layer_norm_modulate_backward(R* dx, const R* dx_add, float* dshift, float* dscale, const T* dy,
                                  const R* x, const float* mean, const float* rstd, const float* scale,
                                  const StreamDims& d) {
  const int64_t width = d.width;
  const float inverse = 1.0f / static_cast<float>(width);
  for (int64_t b = 0; b < d.samples; ++b) {
    const float* sc = scale + b * d.mod_stride;
    float* dsh = dshift + b * d.mod_stride;
    float* dsc = dscale + b * d.mod_stride;
    std::memset(dsh, 0, static_cast<size_t>(width) * 4);
    std::memset(dsc, 0, static_cast<size_t>(width) * 4);
    for (int64_t n = 0; n < d.tokens; ++n) {
      const int64_t row = b * d.tokens + n;
      const R* xr = x + row * width;
      const T* dyr = dy + row * width;
      const vf vmu = splat(mean[row]), vr = splat(rstd[row]), one = splat(1.0f);
      vf sum = {}, dot = {};
      for (int64_t i = 0; i < width; i += kLanes) {
        const vf xhat = (load(xr + i) - vmu) * vr, g = load(dyr + i);
        store(dsh + i, load(dsh + i) + g);
        store(dsc + i, load(dsc + i) + g * xhat);
        const vf gs = g * (one + load(sc + i));
        sum += gs;
        dot += gs * xhat;
      }
      const vf c0 = splat(sum_lanes(sum) * inverse), c1 = splat(sum_lanes(dot) * inverse);
      R* dxr = dx + row * width;
      const R* add = dx_add ? dx_add + row * width : nullptr;
      for (int64_t i = 0; i < width; i += kLanes) {
        const vf xhat = (load(xr + i) - vmu) * vr;
        vf g = vr * (load(dyr + i) * (one + load(sc + i)) - c0 - xhat * c1);
        if (add) g += load(add + i);
        store(dxr + i, g);
      }
    }
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
