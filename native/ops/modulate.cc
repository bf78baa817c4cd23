// adaLN: LayerNorm with a sample's shift and scale, and the gated residual.
#include "../core/error.h"
#include "ops.h"
#include "pieces.h"
#include "typed.h"

namespace orch::ops {
namespace {

kernels::StreamDims dims_of(const Graph& g, Ref x, Ref mod, int64_t samples) {
  const auto& s = g[x].shape;
  if (s[0] % samples != 0) throw Error("ERR_INTERNAL", "modulation: rows are no multiple of samples");
  return {samples, s[0] / samples, s[1], g[mod].shape[1]};
}

}  // namespace

Ref layer_norm_modulate(Graph& g, Ref x, const Chunk& shift, const Chunk& scale, int64_t samples, DType out) {
  const auto d = dims_of(g, x, shift.mod, samples);
  const Ref mod = shift.mod;
  const int64_t at_shift = shift.index * d.width, at_scale = scale.index * d.width;
  const DType residual = g[x].dtype;
  if (mod != scale.mod) throw Error("ERR_INTERNAL", "layer_norm_modulate: shift and scale of two rows");
  Ref y = g.activation("modulated", out, g[x].shape);
  Ref mean = g.activation("mean", DType::F32, {g[x].shape[0]});
  Ref rstd = g.activation("rstd", DType::F32, {g[x].shape[0]});
  typed(residual, out, [&]<class R, class T>(R, T) {
    const TokenBlocks blocks{d.samples, d.tokens};
    g.append(
        "layer norm, modulate", {x, mod}, {y, mean, rstd},
        [=](const graph::Run& r) {
          blocks.each(r, [&](int64_t sample, int64_t samples, int64_t first, int64_t n) {
            const int64_t row = sample * d.tokens + first, at = row * d.width;
            const float* m = r.in<float>(1) + sample * d.mod_stride;
            r.table.residual<R, T>().layer_norm_modulate(r.out<T>(0) + at, r.out<float>(1) + row,
                                                         r.out<float>(2) + row, r.in<R>(0) + at, m + at_shift,
                                                         m + at_scale, {samples, n, d.width, d.mod_stride});
          });
        },
        blocks.parts());
  });
  g.on_reverse([=, &g](graph::Reverse& reverse) {
    Ref dy = reverse.of(y);
    if (!dy) return;
    Ref before = reverse.of(x);
    Ref dx = g.activation("d " + g[x].name, g[x].dtype, g[x].shape);
    Ref dmod = reverse.shared(mod, DType::F32);
    typed(residual, out, [&]<class R, class T>(R, T) {
      g.append(
          "layer norm, modulate backward", {dy, x, mean, rstd, mod, before}, {dx, dmod},
          [=](const graph::Run& r) {
            const int64_t row = r.from * d.tokens, at = row * d.width, m = r.from * d.mod_stride;
            float* dm = r.out<float>(1) + m;
            r.table.residual<R, T>().layer_norm_modulate_backward(
                r.out<R>(0) + at, before ? r.in<R>(5) + at : nullptr, dm + at_shift, dm + at_scale,
                r.in<T>(0) + at, r.in<R>(1) + at, r.in<float>(2) + row, r.in<float>(3) + row,
                r.in<float>(4) + m + at_scale, {r.to - r.from, d.tokens, d.width, d.mod_stride});
          },
          d.samples);
    });
    reverse.set(x, dx);
  });
  return y;
}

Ref gate_residual(Graph& g, Ref x, Ref y, const Chunk& gate, int64_t samples) {
  const auto d = dims_of(g, x, gate.mod, samples);
  const Ref mod = gate.mod;
  const int64_t at = gate.index * d.width;
  const DType residual = g[x].dtype, t = g[y].dtype;
  Ref out = g.activation("residual", residual, g[x].shape);
  typed(residual, t, [&]<class R, class T>(R, T) {
    const TokenBlocks blocks{d.samples, d.tokens};
    g.append(
        "gate, residual", {x, y, mod}, {out},
        [=](const graph::Run& r) {
          blocks.each(r, [&](int64_t sample, int64_t samples, int64_t first, int64_t n) {
            const int64_t from = (sample * d.tokens + first) * d.width;
            r.table.residual<R, T>().gate_residual(r.out<R>(0) + from, r.in<R>(0) + from, r.in<T>(1) + from,
                                                   r.in<float>(2) + sample * d.mod_stride + at,
                                                   {samples, n, d.width, d.mod_stride});
          });
        },
        blocks.parts());
  });
  g.on_reverse([=, &g](graph::Reverse& reverse) {
    Ref dout = reverse.of(out);
    if (!dout) return;
    Ref dy = g.activation("d " + g[y].name, t, g[y].shape);
    Ref dmod = reverse.shared(mod, DType::F32);
    typed(residual, t, [&]<class R, class T>(R, T) {
      g.append(
          "gate, residual backward", {dout, y, mod}, {dy, dmod},
          [=](const graph::Run& r) {
            const int64_t from = r.from * d.tokens * d.width, m = r.from * d.mod_stride + at;
            r.table.residual<R, T>().gate_residual_backward(
                r.out<T>(0) + from, r.out<float>(1) + m, r.in<R>(0) + from, r.in<T>(1) + from,
                r.in<float>(2) + m, {r.to - r.from, d.tokens, d.width, d.mod_stride});
          },
          d.samples);
    });
    reverse.set(y, dy);
    if (reverse.of(x)) throw Error("ERR_INTERNAL", "gate_residual: the residual has another use after it");
    reverse.set(x, dout);  // the residual path passes the gradient on as it is
  });
  return out;
}

}  // namespace orch::ops
