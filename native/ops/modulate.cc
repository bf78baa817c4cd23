// adaLN: LayerNorm with per-sample shift and scale, and the gated residual. Graph::fuse() combines a gated
// residual with the LayerNorm that follows it, which is the case for every residual connection except the
// first one of a dual block.
#include "../core/error.h"
#include "ops.h"
#include "pieces.h"
#include "typed.h"

namespace orch::ops {
namespace {

using graph::Op;
using graph::Run;
using kernels::StreamDims;

/// An operation on the stream: R is the residual's type, T that of the other activations.
template <class R, class T>
struct StreamOp : Op {
  explicit StreamOp(const StreamDims& d_) : d(d_) {}
  const StreamDims d;

  static const kernels::Residual<R, T>& kernels(const Run& r) { return r.table.residual<R, T>(); }
  TokenBlocks blocks() const { return {d.samples, d.tokens}; }
  bool same_stream(const StreamDims& o) const {
    return d.samples == o.samples && d.tokens == o.tokens && d.width == o.width;
  }
};

/// Operations that are split by tokens: f(first row, its sample, the block's dims).
template <class R, class T>
struct Forward : StreamOp<R, T> {
  using StreamOp<R, T>::StreamOp;
  int64_t parts() const override { return this->blocks().parts(); }
  template <class F>
  void each(const Run& r, F f) const {
    const StreamDims& d = this->d;
    this->blocks().each(r, [&](int64_t sample, int64_t samples, int64_t first, int64_t n) {
      f(sample * d.tokens + first, sample, StreamDims{samples, n, d.width, d.mod_stride});
    });
  }
};

/// Operations that sum over tokens and are split by samples.
template <class R, class T>
struct Backward : StreamOp<R, T> {
  using StreamOp<R, T>::StreamOp;
  int64_t parts() const override { return this->d.samples; }
  StreamDims part(const Run& r) const {
    const StreamDims& d = this->d;
    return {r.to - r.from, d.tokens, d.width, d.mod_stride};
  }
};

// Inputs: x, mod. Outputs: y, mean, rstd.
template <class R, class T>
struct Norm final : Forward<R, T> {
  Norm(const StreamDims& d_, int64_t shift_, int64_t scale_)
      : Forward<R, T>(d_), shift(shift_), scale(scale_) {}
  const int64_t shift, scale;  // columns of mod

  const char* name() const override { return "layer norm, modulate"; }
  void run(const Run& r) const override {
    this->each(r, [&](int64_t row, int64_t sample, const StreamDims& d) {
      const int64_t at = row * d.width;
      const float* m = r.in<float>(1) + sample * d.mod_stride;
      this->kernels(r).layer_norm_modulate(r.out<T>(0) + at, r.out<float>(1) + row, r.out<float>(2) + row,
                                           r.in<R>(0) + at, m + shift, m + scale, d);
    });
  }
};

// Inputs: x, y, mod, mod of the norm. Outputs: out, normed, mean, rstd.
template <class R, class T>
struct GateNorm final : Forward<R, T> {
  GateNorm(const StreamDims& gate_, int64_t column_, const Norm<R, T>& norm)
      : Forward<R, T>(norm.d),
        gate_stride(gate_.mod_stride),
        column(column_),
        shift(norm.shift),
        scale(norm.scale) {}
  const int64_t gate_stride, column, shift, scale;

  const char* name() const override { return "gate, residual, layer norm, modulate"; }
  int in_place(int output) const override { return output < 2 ? output : -1; }
  void run(const Run& r) const override {
    this->each(r, [&](int64_t row, int64_t sample, const StreamDims& d) {
      const int64_t at = row * d.width;
      const float* m = r.in<float>(3) + sample * d.mod_stride;
      this->kernels(r).gate_norm(r.out<R>(0) + at, r.out<T>(1) + at, r.out<float>(2) + row,
                                 r.out<float>(3) + row, r.in<R>(0) + at, r.in<T>(1) + at,
                                 r.in<float>(2) + sample * gate_stride + column, gate_stride, m + shift,
                                 m + scale, d);
    });
  }
};

// Inputs: x, y, mod. Output: out.
template <class R, class T>
struct Gate final : Forward<R, T> {
  Gate(const StreamDims& d_, int64_t column_) : Forward<R, T>(d_), column(column_) {}
  const int64_t column;  // of mod

  const char* name() const override { return "gate, residual"; }
  int in_place(int) const override { return 0; }
  void run(const Run& r) const override {
    this->each(r, [&](int64_t row, int64_t sample, const StreamDims& d) {
      const int64_t at = row * d.width;
      this->kernels(r).gate_residual(r.out<R>(0) + at, r.in<R>(0) + at, r.in<T>(1) + at,
                                     r.in<float>(2) + sample * d.mod_stride + column, d);
    });
  }
  std::unique_ptr<Op> then(const Op& next) const override {
    const auto* norm = dynamic_cast<const Norm<R, T>*>(&next);
    if (!norm || !this->same_stream(norm->d)) return nullptr;
    return std::make_unique<GateNorm<R, T>>(this->d, column, *norm);
  }
};

// Inputs: d out, y, mod. Outputs: dy, dmod.
template <class R, class T>
struct GateBackward final : Backward<R, T> {
  GateBackward(const StreamDims& d_, int64_t column_) : Backward<R, T>(d_), column(column_) {}
  const int64_t column;

  const char* name() const override { return "gate, residual backward"; }
  void run(const Run& r) const override {
    const StreamDims d = this->part(r);
    const int64_t at = r.from * d.tokens * d.width, m = r.from * d.mod_stride + column;
    this->kernels(r).gate_residual_backward(r.out<T>(0) + at, r.out<float>(1) + m, r.in<R>(0) + at,
                                            r.in<T>(1) + at, r.in<float>(2) + m, d);
  }
};

// Inputs: dy, x, mean, rstd, mod, the gradient of x from its later uses (or none), y, mod of the gate.
// Outputs: dx, dmod, dy, dmod of the gate.
template <class R, class T>
struct GateNormBackward final : Backward<R, T> {
  GateNormBackward(const StreamDims& norm, int64_t shift_, int64_t scale_, const GateBackward<R, T>& gate)
      : Backward<R, T>(norm),
        gate_stride(gate.d.mod_stride),
        column(gate.column),
        shift(shift_),
        scale(scale_) {}
  const int64_t gate_stride, column, shift, scale;

  const char* name() const override { return "gate, residual, layer norm, modulate backward"; }
  int in_place(int output) const override { return output == 0 ? 5 : output == 2 ? 0 : -1; }
  void run(const Run& r) const override {
    const StreamDims d = this->part(r);
    const int64_t row = r.from * d.tokens, at = row * d.width, m = r.from * d.mod_stride,
                  g = r.from * gate_stride + column;
    const R* before = r.in<R>(5);
    float* dm = r.out<float>(1) + m;
    this->kernels(r).gate_norm_backward(
        r.out<R>(0) + at, before ? before + at : nullptr, dm + shift, dm + scale, r.out<T>(2) + at,
        r.out<float>(3) + g, r.in<T>(0) + at, r.in<R>(1) + at, r.in<float>(2) + row, r.in<float>(3) + row,
        r.in<float>(4) + m + scale, r.in<T>(6) + at, r.in<float>(7) + g, gate_stride, d);
  }
};

// Inputs: dy, x, mean, rstd, mod, the gradient of x from its later uses (or none). Outputs: dx, dmod.
template <class R, class T>
struct NormBackward final : Backward<R, T> {
  NormBackward(const StreamDims& d_, int64_t shift_, int64_t scale_)
      : Backward<R, T>(d_), shift(shift_), scale(scale_) {}
  const int64_t shift, scale;

  const char* name() const override { return "layer norm, modulate backward"; }
  int in_place(int output) const override { return output == 0 ? 5 : -1; }
  void run(const Run& r) const override {
    const StreamDims d = this->part(r);
    const int64_t row = r.from * d.tokens, at = row * d.width, m = r.from * d.mod_stride;
    const R* before = r.in<R>(5);
    float* dm = r.out<float>(1) + m;
    this->kernels(r).layer_norm_modulate_backward(
        r.out<R>(0) + at, before ? before + at : nullptr, dm + shift, dm + scale, r.in<T>(0) + at,
        r.in<R>(1) + at, r.in<float>(2) + row, r.in<float>(3) + row, r.in<float>(4) + m + scale, d);
  }
  std::unique_ptr<Op> then(const Op& next) const override {
    const auto* gate = dynamic_cast<const GateBackward<R, T>*>(&next);
    if (!gate || !this->same_stream(gate->d)) return nullptr;
    return std::make_unique<GateNormBackward<R, T>>(this->d, shift, scale, *gate);
  }
};

StreamDims dims_of(const Graph& g, Ref x, Ref mod, int64_t samples) {
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
    g.append(std::make_unique<Norm<R, T>>(d, at_shift, at_scale), {x, mod}, {y, mean, rstd});
  });
  g.on_reverse([=, &g](graph::Reverse& reverse) {
    Ref dy = reverse.of(y);
    if (!dy) return;
    Ref before = reverse.of(x);
    Ref dx = g.activation("d " + g[x].name, g[x].dtype, g[x].shape);
    Ref dmod = reverse.shared(mod, DType::F32);
    typed(residual, out, [&]<class R, class T>(R, T) {
      g.append(std::make_unique<NormBackward<R, T>>(d, at_shift, at_scale), {dy, x, mean, rstd, mod, before},
               {dx, dmod});
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
    g.append(std::make_unique<Gate<R, T>>(d, at), {x, y, mod}, {out});
  });
  g.on_reverse([=, &g](graph::Reverse& reverse) {
    Ref dout = reverse.of(out);
    if (!dout) return;
    Ref dy = g.activation("d " + g[y].name, t, g[y].shape);
    Ref dmod = reverse.shared(mod, DType::F32);
    typed(residual, t, [&]<class R, class T>(R, T) {
      g.append(std::make_unique<GateBackward<R, T>>(d, at), {dout, y, mod}, {dy, dmod});
    });
    reverse.set(y, dy);
    if (reverse.of(x)) throw Error("ERR_INTERNAL", "gate_residual: the residual has another use after it");
    reverse.set(x, dout);  // the residual connection passes the gradient through unchanged
  });
  return out;
}

}  // namespace orch::ops
