// adaLN: LayerNorm with per-sample shift and scale, the gated residual connection, and both in one.
#include "../core/error.h"
#include "ops.h"
#include "run.h"

namespace orch::ops {
namespace {

using graph::Op;
using kernels::Residual;
using kernels::StreamDims;

StreamDims dims_of(const Graph& g, Ref x, const Chunk& chunk, int64_t samples) {
  const auto& s = g[x].shape;
  if (s[0] % samples != 0) throw Error("ERR_INTERNAL", "modulation: rows are no multiple of samples");
  return {samples, s[0] / samples, s[1], g[chunk.mod].shape[1]};
}

/// Forward passes are split by blocks of tokens: f(run, kernels, first row, its sample, the block's dims).
template <class F>
std::unique_ptr<Op> forward(const char* name, DType residual, DType t, const StreamDims& d,
                            std::vector<int> in_place, F f, int finds_amax = -1) {
  const TokenBlocks blocks{d.samples, d.tokens};
  const auto run = [=](const Run& r, const auto& k) {
    blocks.each(r, [&](int64_t sample, int64_t samples, int64_t first, int64_t n) {
      f(r, k, sample * d.tokens + first, sample, StreamDims{samples, n, d.width, d.mod_stride});
    });
  };
  return graph::make_op(name, typed(residual, t, run),
                        {.parts = blocks.parts(), .in_place = std::move(in_place), .finds_amax = finds_amax});
}
/// Backward passes sum over tokens and are split by samples: f(run, kernels, first row, its sample, the
/// part's dims).
template <class F>
std::unique_ptr<Op> backward(const char* name, DType residual, DType t, const StreamDims& d,
                             std::vector<int> in_place, F f, int finds_amax = -1) {
  const auto run = [=](const Run& r, const auto& k) {
    f(r, k, r.from * d.tokens, r.from, StreamDims{r.to - r.from, d.tokens, d.width, d.mod_stride});
  };
  return graph::make_op(name, typed(residual, t, run),
                        {.parts = d.samples, .in_place = std::move(in_place), .finds_amax = finds_amax});
}

/// Columns of the chunks in their rows of modulations.
struct Columns {
  int64_t gate_stride, gate, shift;
};

/// Inputs: x, y and mod of the gate (or none), mod of the norm. Outputs: out (or none), normed, mean, rstd.
std::unique_ptr<Op> norm_op(DType residual, DType t, const StreamDims& d, const Columns& c, bool gated) {
  const auto run = [=]<class R, class T>(const Run& r, const Residual<R, T>& k, int64_t row, int64_t sample,
                                         const StreamDims& part) {
    const int64_t at = row * d.width;
    const float* m = r.in<float>(3) + sample * d.mod_stride + c.shift;
    k.gate_norm(advanced(r.out<R>(0), at), r.out<T>(1) + at, r.out<float>(2) + row, r.out<float>(3) + row,
                r.in<R>(0) + at, advanced(r.in<T>(1), at),
                advanced(r.in<float>(2), sample * c.gate_stride + c.gate), c.gate_stride, m, m + d.width,
                part, r.amax);
  };
  return gated ? forward("gate, residual, layer norm, modulate", residual, t, d, {0, 1}, run, 1)
               : forward("layer norm, modulate", residual, t, d, {}, run, 1);
}
/// Inputs: dnormed, out, mean, rstd, mod of the norm, the gradient of `out` from its later uses (or none), y
/// and mod of the gate (or none). Outputs: dx, dmod of the norm, dy and dmod of the gate (or none).
std::unique_ptr<Op> norm_backward_op(DType residual, DType t, const StreamDims& d, const Columns& c,
                                     bool gated) {
  const auto run = [=]<class R, class T>(const Run& r, const Residual<R, T>& k, int64_t row, int64_t sample,
                                         const StreamDims& part) {
    const int64_t at = row * d.width, m = sample * d.mod_stride + c.shift,
                  gate = sample * c.gate_stride + c.gate;
    k.gate_norm_backward(
        r.out<R>(0) + at, advanced(r.in<R>(5), at), r.out<float>(1) + m, r.out<float>(1) + m + d.width,
        advanced(r.out<T>(2), at), advanced(r.out<float>(3), gate), r.in<T>(0) + at, r.in<R>(1) + at,
        r.in<float>(2) + row, r.in<float>(3) + row, r.in<float>(4) + m + d.width, advanced(r.in<T>(6), at),
        advanced(r.in<float>(7), gate), c.gate_stride, part, r.amax);
  };
  return gated ? backward("gate, residual, layer norm, modulate backward", residual, t, d, {5, -1, 0}, run, 2)
               : backward("layer norm, modulate backward", residual, t, d, {5}, run);
}

/// The residual connection passes the gradient through unchanged.
void pass_through(graph::Reverse& reverse, Ref x, Ref dx) {
  if (reverse.of(x)) throw Error("ERR_INTERNAL", "gate: the residual has another use after it");
  reverse.set(x, dx);
}

}  // namespace

Ref gate_residual(Graph& g, Ref x, Ref y, const Chunk& gate, int64_t samples) {
  const auto d = dims_of(g, x, gate, samples);
  const Ref mod = gate.mod;
  const int64_t column = gate.index * d.width;
  const DType residual = g[x].dtype, t = g[y].dtype;
  Ref out = g.activation("residual", residual, g[x].shape);
  const auto run = [=]<class R, class T>(const Run& r, const Residual<R, T>& k, int64_t row, int64_t sample,
                                         const StreamDims& part) {
    const int64_t at = row * d.width;
    k.gate_residual(r.out<R>(0) + at, r.in<R>(0) + at, r.in<T>(1) + at,
                    r.in<float>(2) + sample * d.mod_stride + column, part);
  };
  g.append(forward("gate, residual", residual, t, d, {0}, run), {x, y, mod}, {out});
  g.on_reverse([=, &g](graph::Reverse& reverse) {
    Ref dout = reverse.of(out);
    if (!dout) return;
    Ref dy = reverse.create(y), dmod = reverse.shared(mod, DType::F32);
    const auto run = [=]<class R, class T>(const Run& r, const Residual<R, T>& k, int64_t row, int64_t sample,
                                           const StreamDims& part) {
      const int64_t at = row * d.width, m = sample * d.mod_stride + column;
      k.gate_residual_backward(r.out<T>(0) + at, r.out<float>(1) + m, r.in<R>(0) + at, r.in<T>(1) + at,
                               r.in<float>(2) + m, part);
    };
    g.append(backward("gate, residual backward", residual, t, d, {}, run), {dout, y, mod}, {dy, dmod});
    reverse.set(y, dy);
    pass_through(reverse, x, dout);
  });
  return out;
}

std::pair<Ref, Ref> gate_norm(Graph& g, Ref x, Ref y, const Chunk& gate, const Chunk& chunk, int64_t samples,
                              DType t, int norm_level) {
  const bool gated(y);
  const auto d = dims_of(g, x, chunk, samples);
  const Ref gate_mod = gate.mod, mod = chunk.mod;
  const Columns columns{gated ? g[gate_mod].shape[1] : 0, gate.index * d.width, chunk.index * d.width};
  const DType residual = g[x].dtype;
  if (gated && g[y].dtype != t)
    throw Error("ERR_INTERNAL", "gate_norm: its branch and its result differ in type");
  Ref sum = gated ? g.activation("residual", residual, g[x].shape) : x;
  Ref normed = g.activation("modulated", t, g[x].shape);
  Ref mean = g.activation("mean", DType::F32, {g[x].shape[0]});
  Ref rstd = g.activation("rstd", DType::F32, {g[x].shape[0]});
  g.append(norm_op(residual, t, d, columns, gated), {x, y, gate_mod, mod},
           {gated ? sum : Ref{}, normed, mean, rstd});
  g.recompute_by(norm_op(residual, t, d, columns, false), {sum, {}, {}, mod}, {{}, normed, mean, rstd},
                 norm_level);
  g.on_reverse([=, &g](graph::Reverse& reverse) {
    Ref dnormed = reverse.of(normed);
    if (!dnormed) throw Error("ERR_INTERNAL", "gate_norm: its result is not used");
    Ref before = reverse.of(sum), dx = reverse.create(sum), dmod = reverse.shared(mod, DType::F32),
        dy = gated ? reverse.create(y) : Ref{}, dgate = gated ? reverse.shared(gate_mod, DType::F32) : Ref{};
    g.append(norm_backward_op(residual, t, d, columns, gated),
             {dnormed, sum, mean, rstd, mod, before, y, gate_mod}, {dx, dmod, dy, dgate});
    if (!gated) return reverse.set(x, dx);
    reverse.set(y, dy);
    pass_through(reverse, x, dx);
  });
  return {sum, normed};
}

}  // namespace orch::ops
