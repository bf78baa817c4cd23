// The gated residual connection of adaLN-zero, and the addition of the position embedding.
#include "families.h"

namespace orch::kernels::ORCH_ISA {
namespace {

template <class R, class T>
void gate_residual(R* out, const R* x, const T* y, const float* gate, const StreamDims& d) {
  for (int64_t b = 0; b < d.samples; ++b) {
    const float* g = gate + b * d.mod_stride;
    for (int64_t n = 0; n < d.tokens; ++n) {
      const int64_t at = (b * d.tokens + n) * d.width;
      gate_row(out + at, x + at, y + at, g, d.width);
    }
  }
}

template <class R, class T>
void gate_residual_backward(T* dy, float* dgate, const R* dout, const T* y, const float* gate,
                            const StreamDims& d) {
  constexpr int kVectors = 4;
  for (int64_t b = 0; b < d.samples; ++b) {
    const float* g = gate + b * d.mod_stride;
    float* dg = dgate + b * d.mod_stride;
    const int64_t base = b * d.tokens * d.width;
    for (int64_t i = 0; i < d.width; i += kVectors * kLanes) {
      vf sum[kVectors] = {}, gv[kVectors];
      for (int v = 0; v < kVectors; ++v) gv[v] = load(g + i + v * kLanes);
      for (int64_t n = 0; n < d.tokens; ++n) {
        const int64_t at = base + n * d.width + i;
        for (int v = 0; v < kVectors; ++v) {
          const vf o = load(dout + at + v * kLanes);
          sum[v] += o * load(y + at + v * kLanes);
          store(dy + at + v * kLanes, gv[v] * o);
        }
      }
      for (int v = 0; v < kVectors; ++v) store(dg + i + v * kLanes, sum[v]);
    }
  }
}

template <class R, class T>
void add_position(R* out, const T* x, const float* position, int64_t samples, int64_t tokens, int64_t width) {
  const int64_t n = tokens * width;
  for (int64_t b = 0; b < samples; ++b) {
    const T* xb = x + b * n;
    map(out + b * n, n, [=](auto at) { return at(xb) + at(position); });
  }
}

}  // namespace

void fill_gate(Table& t) {
  t.each_pair([]<class R, class T>(Residual<R, T>& k) {
    k.gate_residual = gate_residual<R, T>;
    k.gate_residual_backward = gate_residual_backward<R, T>;
    k.add_position = add_position<R, T>;
  });
}

}  // namespace orch::kernels::ORCH_ISA
