// adaLN: LayerNorm with per-sample shift and scale, the gated residual connection, and both in one.
#include "../core/error.h"
#include "ops.h"
#include "pieces.h"
#include "typed.h"

namespace orch::ops {
namespace {

using graph::Op;
using graph::Run;
using kernels::StreamDims;

StreamDims dims_of(const Graph& g, Ref x, const Chunk& chunk, int64_t samples) {
  const auto& s = g[x].shape;
  if (s[0] % samples != 0) throw Error("ERR_INTERNAL", "modulation: rows are no multiple of samples");
  return {samples, s[0] / samples, s[1], g[chunk.mod].shape[1]};
}

/// Forward passes are split by blocks of tokens: f(run, first row, its sample, the block's dims).
template <class F>
std::unique_ptr<Op> forward(const char* name, const StreamDims& d, std::vector<int> in_place, F f) {
  const TokenBlocks blocks{d.samples, d.tokens};
  const auto run = [=](const Run& r) {
    blocks.each(r, [&](int64_t sample, int64_t samples, int64_t first, int64_t n) {
      f(r, sample * d.tokens + first, sample, StreamDims{samples, n, d.width, d.mod_stride});
    });
  };
  return graph::make_op(name, run, {.parts = blocks.parts(), .in_place = std::move(in_place)});
}
/// Backward passes sum over tokens and are split by samples: f(run, first row, its sample, the part's dims).
template <class F>
std::unique_ptr<Op> backward(const char* name, const StreamDims& d, std::vector<int> in_place, F f) {
  const auto run = [=](const Run& r) {
    f(r, r.from * d.tokens, r.from, StreamDims{r.to - r.from, d.tokens, d.width, d.mod_stride});
  };
  return graph::make_op(name, run, {.parts = d.samples, .in_place = std::move(in_place)});
}

/// Inputs: x, mod. Outputs: y, mean, rstd. The shift begins at column `shift` of mod.
template <class R, class T>
std::unique_ptr<Op> norm_op(const StreamDims& d, int64_t shift) {
  return forward("layer norm, modulate", d, {},
                 [=](const Run& r, int64_t row, int64_t sample, const StreamDims& d) {
                   const int64_t at = row * d.width;
                   const float* m = r.in<float>(1) + sample * d.mod_stride + shift;
                   r.table.residual<R, T>().layer_norm_modulate(r.out<T>(0) + at, r.out<float>(1) + row,
                                                                r.out<float>(2) + row, r.in<R>(0) + at, m,
                                                                m + d.width, d);
                 });
}

/// Inputs: dy, x, mean, rstd, mod, the gradient of x from its later uses (or none). Outputs: dx, dmod.
template <class R, class T>
std::unique_ptr<Op> norm_backward_op(const StreamDims& d, int64_t shift) {
  return backward("layer norm, modulate backward", d, {5},
                  [=](const Run& r, int64_t row, int64_t sample, const StreamDims& d) {
                    const int64_t at = row * d.width, m = sample * d.mod_stride + shift;
                    const R* before = r.in<R>(5);
                    r.table.residual<R, T>().layer_norm_modulate_backward(
                        r.out<R>(0) + at, before ? before + at : nullptr, r.out<float>(1) + m,
                        r.out<float>(1) + m + d.width, r.in<T>(0) + at, r.in<R>(1) + at, r.in<float>(2) + row,
                        r.in<float>(3) + row, r.in<float>(4) + m + d.width, d);
                  });
}

/// Inputs: x, y, mod of the gate, mod of the norm. Outputs: out, normed, mean, rstd.
template <class R, class T>
std::unique_ptr<Op> gate_norm_op(const StreamDims& d, int64_t gate_stride, int64_t gate, int64_t shift) {
  return forward("gate, residual, layer norm, modulate", d, {0, 1},
                 [=](const Run& r, int64_t row, int64_t sample, const StreamDims& d) {
                   const int64_t at = row * d.width;
                   const float* m = r.in<float>(3) + sample * d.mod_stride + shift;
                   r.table.residual<R, T>().gate_norm(
                       r.out<R>(0) + at, r.out<T>(1) + at, r.out<float>(2) + row, r.out<float>(3) + row,
                       r.in<R>(0) + at, r.in<T>(1) + at, r.in<float>(2) + sample * gate_stride + gate,
                       gate_stride, m, m + d.width, d);
                 });
}

/// Inputs: dnormed, out, mean, rstd, mod of the norm, the gradient of `out` from its later uses (or none), y,
/// mod of the gate. Outputs: dx, dmod of the norm, dy, dmod of the gate.
template <class R, class T>
std::unique_ptr<Op> gate_norm_backward_op(const StreamDims& d, int64_t gate_stride, int64_t gate,
                                          int64_t shift) {
  return backward("gate, residual, layer norm, modulate backward", d, {5, -1, 0},
                  [=](const Run& r, int64_t row, int64_t sample, const StreamDims& d) {
                    const int64_t at = row * d.width, m = sample * d.mod_stride + shift,
                                  of_gate = sample * gate_stride + gate;
                    const R* before = r.in<R>(5);
                    r.table.residual<R, T>().gate_norm_backward(
                        r.out<R>(0) + at, before ? before + at : nullptr, r.out<float>(1) + m,
                        r.out<float>(1) + m + d.width, r.out<T>(2) + at, r.out<float>(3) + of_gate,
                        r.in<T>(0) + at, r.in<R>(1) + at, r.in<float>(2) + row, r.in<float>(3) + row,
                        r.in<float>(4) + m + d.width, r.in<T>(6) + at, r.in<float>(7) + of_gate, gate_stride,
                        d);
                  });
}

/// The residual connection passes the gradient through unchanged.
void pass_through(graph::Reverse& reverse, Ref x, Ref dx) {
  if (reverse.of(x)) throw Error("ERR_INTERNAL", "gate: the residual has another use after it");
  reverse.set(x, dx);
}

}  // namespace

Ref layer_norm_modulate(Graph& g, Ref x, const Chunk& chunk, int64_t samples, DType out) {
  const auto d = dims_of(g, x, chunk, samples);
  const Ref mod = chunk.mod;
  const int64_t shift = chunk.index * d.width;
  const DType residual = g[x].dtype;
  Ref y = g.activation("modulated", out, g[x].shape);
  Ref mean = g.activation("mean", DType::F32, {g[x].shape[0]});
  Ref rstd = g.activation("rstd", DType::F32, {g[x].shape[0]});
  typed(residual, out, [&]<class R, class T>(R, T) {
    g.append(norm_op<R, T>(d, shift), {x, mod}, {y, mean, rstd});
  });
  g.on_reverse([=, &g](graph::Reverse& reverse) {
    Ref dy = reverse.of(y);
    if (!dy) return;
    Ref before = reverse.of(x), dx = reverse.create(x), dmod = reverse.shared(mod, DType::F32);
    typed(residual, out, [&]<class R, class T>(R, T) {
      g.append(norm_backward_op<R, T>(d, shift), {dy, x, mean, rstd, mod, before}, {dx, dmod});
    });
    reverse.set(x, dx);
  });
  return y;
}

Ref gate_residual(Graph& g, Ref x, Ref y, const Chunk& gate, int64_t samples) {
  const auto d = dims_of(g, x, gate, samples);
  const Ref mod = gate.mod;
  const int64_t column = gate.index * d.width;
  const DType residual = g[x].dtype, t = g[y].dtype;
  Ref out = g.activation("residual", residual, g[x].shape);
  typed(residual, t, [&]<class R, class T>(R, T) {
    g.append(forward("gate, residual", d, {0},
                     [=](const Run& r, int64_t row, int64_t sample, const StreamDims& d) {
                       const int64_t at = row * d.width;
                       r.table.residual<R, T>().gate_residual(
                           r.out<R>(0) + at, r.in<R>(0) + at, r.in<T>(1) + at,
                           r.in<float>(2) + sample * d.mod_stride + column, d);
                     }),
             {x, y, mod}, {out});
  });
  g.on_reverse([=, &g](graph::Reverse& reverse) {
    Ref dout = reverse.of(out);
    if (!dout) return;
    Ref dy = reverse.create(y), dmod = reverse.shared(mod, DType::F32);
    typed(residual, t, [&]<class R, class T>(R, T) {
      g.append(backward("gate, residual backward", d, {},
                        [=](const Run& r, int64_t row, int64_t sample, const StreamDims& d) {
                          const int64_t at = row * d.width, m = sample * d.mod_stride + column;
                          r.table.residual<R, T>().gate_residual_backward(
                              r.out<T>(0) + at, r.out<float>(1) + m, r.in<R>(0) + at, r.in<T>(1) + at,
                              r.in<float>(2) + m, d);
                        }),
               {dout, y, mod}, {dy, dmod});
    });
    reverse.set(y, dy);
    pass_through(reverse, x, dout);
  });
  return out;
}

std::pair<Ref, Ref> gate_norm(Graph& g, Ref x, Ref y, const Chunk& gate, const Chunk& chunk, int64_t samples,
                              DType out, int norm_level) {
  const auto d = dims_of(g, x, chunk, samples);
  const Ref gate_mod = gate.mod, mod = chunk.mod;
  const int64_t gate_stride = g[gate_mod].shape[1], column = gate.index * d.width,
                shift = chunk.index * d.width;
  const DType residual = g[x].dtype;
  if (g[y].dtype != out) throw Error("ERR_INTERNAL", "gate_norm: its branch and its result differ in type");
  Ref sum = g.activation("residual", residual, g[x].shape);
  Ref normed = g.activation("modulated", out, g[x].shape);
  Ref mean = g.activation("mean", DType::F32, {g[x].shape[0]});
  Ref rstd = g.activation("rstd", DType::F32, {g[x].shape[0]});
  typed(residual, out, [&]<class R, class T>(R, T) {
    g.append(gate_norm_op<R, T>(d, gate_stride, column, shift), {x, y, gate_mod, mod},
             {sum, normed, mean, rstd});
    g.recompute_by(norm_op<R, T>(d, shift), {sum, mod}, {normed, mean, rstd}, norm_level);
  });
  g.on_reverse([=, &g](graph::Reverse& reverse) {
    Ref dnormed = reverse.of(normed);
    if (!dnormed) throw Error("ERR_INTERNAL", "gate_norm: its result is not used");
    Ref before = reverse.of(sum), dx = reverse.create(sum), dmod = reverse.shared(mod, DType::F32),
        dy = reverse.create(y), dgate = reverse.shared(gate_mod, DType::F32);
    typed(residual, out, [&]<class R, class T>(R, T) {
      g.append(gate_norm_backward_op<R, T>(d, gate_stride, column, shift),
               {dnormed, sum, mean, rstd, mod, before, y, gate_mod}, {dx, dmod, dy, dgate});
    });
    reverse.set(y, dy);
    pass_through(reverse, x, dx);
  });
  return {sum, normed};
}

}  // namespace orch::ops
