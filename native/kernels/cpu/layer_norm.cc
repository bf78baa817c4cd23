// LayerNorm without affine parameters, followed by the modulation of adaLN; forward and backward, also fused
// with the gated residual before it. Widths are multiples of 64.
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

/// before(sample, first row, rows) is called before these rows are read.
template <class R, class T, class Before>
ORCH_INLINE void normalize(T* y, float* mean, float* rstd, const R* x, const float* shift, const float* scale,
                           const StreamDims& d, Before before) {
  constexpr int kTogether = 4;
  const int64_t width = d.width;
  for (int64_t b = 0; b < d.samples; ++b) {
    const float* sh = shift + b * d.mod_stride;
    const float* sc = scale + b * d.mod_stride;
    int64_t row = b * d.tokens;
    const int64_t end = row + d.tokens;
    for (; row + kTogether <= end; row += kTogether) {
      before(b, row, kTogether);
      normalize_rows<kTogether>(y + row * width, mean + row, rstd + row, x + row * width, sh, sc, width);
    }
    for (; row < end; ++row) {
      before(b, row, 1);
      normalize_rows<1>(y + row * width, mean + row, rstd + row, x + row * width, sh, sc, width);
    }
  }
}

template <class R, class T>
void layer_norm_modulate(T* y, float* mean, float* rstd, const R* x, const float* shift, const float* scale,
                         const StreamDims& d) {
  normalize(y, mean, rstd, x, shift, scale, d, [](int64_t, int64_t, int64_t) {});
}

template <class R, class T>
void gate_norm(R* out, T* normed, float* mean, float* rstd, const R* x, const T* y, const float* gate,
               int64_t gate_stride, const float* shift, const float* scale, const StreamDims& d) {
  normalize(normed, mean, rstd, out, shift, scale, d, [&](int64_t sample, int64_t row, int64_t rows) {
    const float* g = gate + sample * gate_stride;
    for (int64_t at = row * d.width; at < (row + rows) * d.width; at += d.width)
      gate_row(out + at, x + at, y + at, g, d.width);
  });
}

/// One row; adds to dshift and dscale. (Several rows at once, as above, are slower here, as measured in whole
/// steps, where the operands come from memory.)
template <class R, class T>
ORCH_INLINE void backward_row(R* dx, const R* dx_add, float* dshift, float* dscale, const T* dy, const R* x,
                              float mean, float rstd, const float* scale, int64_t width) {
  const float inverse = 1.0f / static_cast<float>(width);
  const vf mu = splat(mean), factor = splat(rstd), one = splat(1.0f);
  vf sum = {}, dot = {};
  for (int64_t i = 0; i < width; i += kLanes) {
    const vf xhat = (load(x + i) - mu) * factor, g = load(dy + i), gs = g * (one + load(scale + i));
    store(dshift + i, load(dshift + i) + g);
    store(dscale + i, load(dscale + i) + g * xhat);
    sum += gs;
    dot += gs * xhat;
  }
  sum = splat(sum_lanes(sum) * inverse);
  dot = splat(sum_lanes(dot) * inverse);
  const auto gradient = [&](int64_t i) __attribute__((always_inline)) {
    const vf xhat = (load(x + i) - mu) * factor;
    const vf g = factor * (load(dy + i) * (one + load(scale + i)) - sum - xhat * dot);
    return dx_add ? g + load(dx_add + i) : g;
  };
  for (int64_t i = 0; i < width; i += 2 * kLanes) store2(dx + i, gradient(i), gradient(i + kLanes));
}

/// after(sample, from, to) is called when the dx of these rows has been written.
template <class R, class T, class After>
ORCH_INLINE void backward(R* dx, const R* dx_add, float* dshift, float* dscale, const T* dy, const R* x,
                          const float* mean, const float* rstd, const float* scale, const StreamDims& d,
                          After after) {
  for (int64_t b = 0; b < d.samples; ++b) {
    float* dsh = dshift + b * d.mod_stride;
    float* dsc = dscale + b * d.mod_stride;
    std::memset(dsh, 0, static_cast<size_t>(d.width) * 4);
    std::memset(dsc, 0, static_cast<size_t>(d.width) * 4);
    const int64_t end = (b + 1) * d.tokens;
    for (int64_t from = b * d.tokens; from < end; from += 4) {
      const int64_t to = min_of(from + 4, end);
      for (int64_t row = from; row < to; ++row) {
        const int64_t at = row * d.width;
        backward_row(dx + at, dx_add ? dx_add + at : nullptr, dsh, dsc, dy + at, x + at, mean[row], rstd[row],
                     scale + b * d.mod_stride, d.width);
      }
      after(b, from, to);
    }
  }
}

template <class R, class T>
void layer_norm_modulate_backward(R* dx, const R* dx_add, float* dshift, float* dscale, const T* dy,
                                  const R* x, const float* mean, const float* rstd, const float* scale,
                                  const StreamDims& d) {
  backward(dx, dx_add, dshift, dscale, dy, x, mean, rstd, scale, d, [](int64_t, int64_t, int64_t) {});
}

template <class R, class T>
void gate_norm_backward(R* dx, const R* dx_add, float* dshift, float* dscale, T* dy, float* dgate,
                        const T* dnormed, const R* out, const float* mean, const float* rstd,
                        const float* scale, const T* y, const float* gate, int64_t gate_stride,
                        const StreamDims& d) {
  for (int64_t b = 0; b < d.samples; ++b)
    std::memset(dgate + b * gate_stride, 0, static_cast<size_t>(d.width) * 4);
  const auto gate_rows = [&](int64_t sample, int64_t from, int64_t to) {
    const float* g = gate + sample * gate_stride;
    float* dg = dgate + sample * gate_stride;
    for (int64_t i = 0; i < d.width; i += kLanes) {
      const vf gv = load(g + i);
      vf sum = load(dg + i);
      for (int64_t at = from * d.width + i; at < to * d.width; at += d.width) {
        const vf o = load(dx + at);
        sum += o * load(y + at);
        store(dy + at, gv * o);
      }
      store(dg + i, sum);
    }
  };
  backward(dx, dx_add, dshift, dscale, dnormed, out, mean, rstd, scale, d, gate_rows);
}

}  // namespace

void fill_layer_norm(Table& t) {
  t.each_pair([]<class R, class T>(Residual<R, T>& k) {
    k.layer_norm_modulate = layer_norm_modulate<R, T>;
    k.layer_norm_modulate_backward = layer_norm_modulate_backward<R, T>;
    k.gate_norm = gate_norm<R, T>;
    k.gate_norm_backward = gate_norm_backward<R, T>;
  });
}

}  // namespace orch::kernels::ORCH_ISA
