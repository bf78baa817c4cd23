// The gated residual connection of adaLN-zero, and LayerNorm without affine parameters, followed by the
// modulation of adaLN, forward and backward, alone or fused with it. Widths are multiples of 64.
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

/// One row of the gated residual.
template <class R, class T>
ORCH_INLINE void gate_row(R* out, const R* x, const T* y, const float* gate, int64_t width) {
  for (int64_t i = 0; i < width; i += 2 * kLanes) {
    store2(out + i, load(x + i) + load(gate + i) * load(y + i),
           load(x + i + kLanes) + load(gate + i + kLanes) * load(y + i + kLanes));
  }
}

template <class R, class T>
void gate_residual(R* out, const R* x, const T* y, const float* gate, const StreamDims& d) {
  for (int64_t b = 0, at = 0; b < d.samples; ++b)
    for (int64_t n = 0; n < d.tokens; ++n, at += d.width)
      gate_row(out + at, x + at, y + at, gate + b * d.mod_stride, d.width);
}

template <class R, class T>
void gate_norm(R* out, T* normed, float* mean, float* rstd, const R* x, const T* y, const float* gate,
               int64_t gate_stride, const float* shift, const float* scale, const StreamDims& d,
               uint32_t* /*amax*/) {
  constexpr int kTogether = 4;
  const int64_t width = d.width;
  const R* rows = y ? out : x;
  for (int64_t b = 0; b < d.samples; ++b) {
    const float *sh = shift + b * d.mod_stride, *sc = scale + b * d.mod_stride;
    const int64_t end = (b + 1) * d.tokens;
    for (int64_t row = b * d.tokens, n; row < end; row += n) {
      n = row + kTogether <= end ? kTogether : 1;
      const int64_t from = row * width;
      for (int64_t at = from; y && at < from + n * width; at += width)
        gate_row(out + at, x + at, y + at, gate + b * gate_stride, width);
      if (n == kTogether) {
        normalize_rows<kTogether>(normed + from, mean + row, rstd + row, rows + from, sh, sc, width);
      } else {
        normalize_rows<1>(normed + from, mean + row, rstd + row, rows + from, sh, sc, width);
      }
    }
  }
}

/// Backward of the gated residual for some rows of a sample; adds to dgate.
template <class R, class T>
ORCH_INLINE void gate_rows_backward(T* dy, float* dgate, const R* dout, const T* y, const float* gate,
                                    int64_t rows, int64_t width) {
  constexpr int kVectors = 4;
  for (int64_t i = 0; i < width; i += kVectors * kLanes) {
    vf sum[kVectors], gv[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      sum[v] = load(dgate + i + v * kLanes);
      gv[v] = load(gate + i + v * kLanes);
    }
    for (int64_t row = i; row < rows * width; row += width) {
      for (int v = 0; v < kVectors; ++v) {
        const int64_t at = row + v * kLanes;
        const vf o = load(dout + at);
        sum[v] += o * load(y + at);
        store(dy + at, gv[v] * o);
      }
    }
    for (int v = 0; v < kVectors; ++v) store(dgate + i + v * kLanes, sum[v]);
  }
}

ORCH_INLINE void clear(float* p, int64_t n) { std::memset(p, 0, static_cast<size_t>(n) * sizeof(float)); }

template <class R, class T>
void gate_residual_backward(T* dy, float* dgate, const R* dout, const T* y, const float* gate,
                            const StreamDims& d) {
  for (int64_t b = 0; b < d.samples; ++b) {
    const int64_t at = b * d.tokens * d.width, mod = b * d.mod_stride;
    clear(dgate + mod, d.width);
    gate_rows_backward(dy + at, dgate + mod, dout + at, y + at, gate + mod, d.tokens, d.width);
  }
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

template <class R, class T>
void gate_norm_backward(R* dx, const R* dx_add, float* dshift, float* dscale, T* dy, float* dgate,
                        const T* dnormed, const R* out, const float* mean, const float* rstd,
                        const float* scale, const T* y, const float* gate, int64_t gate_stride,
                        const StreamDims& d, uint32_t* /*amax*/) {
  for (int64_t b = 0; b < d.samples; ++b) {
    const int64_t mod = b * d.mod_stride, of_gate = b * gate_stride, end = (b + 1) * d.tokens;
    clear(dshift + mod, d.width);
    clear(dscale + mod, d.width);
    if (y) clear(dgate + of_gate, d.width);
    for (int64_t from = b * d.tokens; from < end; from += 4) {
      const int64_t to = min_of(from + 4, end), first = from * d.width;
      for (int64_t row = from; row < to; ++row) {
        const int64_t at = row * d.width;
        backward_row(dx + at, dx_add ? dx_add + at : nullptr, dshift + mod, dscale + mod, dnormed + at,
                     out + at, mean[row], rstd[row], scale + mod, d.width);
      }
      if (y)
        gate_rows_backward(dy + first, dgate + of_gate, dx + first, y + first, gate + of_gate, to - from,
                           d.width);
    }
  }
}

}  // namespace

void fill_layer_norm(Table& t) {
  t.each_pair([]<class R, class T>(Residual<R, T>& k) {
    k.gate_residual = gate_residual<R, T>;
    k.gate_residual_backward = gate_residual_backward<R, T>;
    k.gate_norm = gate_norm<R, T>;
    k.gate_norm_backward = gate_norm_backward<R, T>;
  });
}

}  // namespace orch::kernels::ORCH_ISA
