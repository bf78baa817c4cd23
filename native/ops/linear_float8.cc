// A linear layer whose matmuls read 8-bit floats: x and the weights in E4M3, the gradient of y in E5M2, each
// with one scale, which is found when the tensor is quantized. So there is no state, and a slot's bits depend
// on the slot alone. The matmuls sum in fp32; y and the gradient of x are bf16, those of weights fp32.
//
// A matmul of 8-bit floats reads both operands along the dimension that is summed, so each tensor is also
// stored transposed for the backward pass, which reads x in one byte in place of two.
#include "../core/error.h"
#include "ops.h"
#include "run.h"

namespace orch::ops {
namespace {

using graph::MatmulSpec;

struct Float8 {
  Ref values, transposed, inverse;
};

/// What is quantized, and what its copies are for.
struct Source {
  Ref x;
  DType format;
  bool transposed;    ///< whether that copy is needed
  bool gelu = false;  ///< gelu(x) in place of x
  Ref sums = {};      ///< where the sums over rows are written: a gradient, or none
};

Float8 quantize(Graph& g, const Source& s) {
  const int64_t rows = g[s.x].shape[0], width = graph::elements(g[s.x].shape) / rows;
  if (width % 16 != 0 || g[s.x].dtype != DType::BF16)
    throw Error("ERR_INTERNAL", "quantize: " + g[s.x].name + " is not bf16, or its width no multiple of 16");
  const std::string name = g[s.x].name + " " + name_of(s.format);
  const Float8 q{
      g.activation(name, s.format, {rows, width}),
      s.transposed ? g.activation(name + " transposed", s.format, {width, (rows + 15) / 16 * 16}) : Ref{},
      g.activation(name + " scale", DType::F32, {1})};
  const graph::AmaxWord word = g.amax_word(s.gelu ? Ref{} : s.x);
  const auto run = [=, format = s.format, gelu = s.gelu, found = word.found](const Run& r) {
    const kernels::Quantized to{r.out<uint8_t>(0), r.out<uint8_t>(1), r.out<float>(2)};
    const kernels::Amax amax{r.amax, found};
    const auto compute = [&](float* sums) {
      r.table.raw.quantize(to, sums, r.in<bf16>(0), amax, rows, width, format);
    };
    if (gelu)
      r.table.raw.quantize_gelu(to, r.in<bf16>(0), amax, rows, width);
    else if (r.outputs[3])
      graph::write_gradient(r, r.out<float>(3), width, compute);
    else
      compute(nullptr);
  };
  g.append(s.gelu ? "gelu, quantize" : "quantize", {s.x}, {q.values, q.transposed, q.inverse, s.sums}, run,
           {.scratch_bytes = s.sums ? sizeof(float) * static_cast<size_t>(width) : 0})
      .amax = word.index;
  return q;
}
/// The same, recomputed from a level of its own.
Float8 quantize(Graph& g, const Source& s, int level) {
  const int before = g.recompute_level();
  g.set_recompute_level(level);
  const Float8 q = quantize(g, s);
  g.set_recompute_level(before);
  return q;
}

/// to [m, n] = a b^T (+ bias)
void multiply(Graph& g, const char* name, Ref a, Ref a_scale, Ref b, Ref b_scale, Ref to, Ref bias = {}) {
  const auto &as = g[a].shape, &bs = g[b].shape;
  MatmulSpec product{as[0],       bs[0], as[1], g[a].dtype, g[b].dtype,
                     g[to].dtype, false, true,  bool(bias), false};
  if (bias) product.bias_type = g.backend().bias_type(product);
  if (product.bias_type != DType::F32)
    bias = g.parameter(g[bias].name, product.bias_type, g[bias].shape, g[bias].offset);
  g.append(g.backend().matmul(name, product), {a, b, bias, a_scale, b_scale}, {to});
}

/// dx, the gradient of gelu(x), becomes that of x.
Ref before_gelu(Graph& g, graph::Reverse& d, Ref dy, Ref x) {
  Ref dx = d.create(x);
  const int64_t n = graph::elements(g[x].shape);
  const auto run = [n](const Run& r) {
    r.table.b16.gelu_backward(r.out<bf16>(0), r.in<bf16>(0), r.in<bf16>(1), n, r.amax);
  };
  g.append("gelu backward", {dy, x}, {dx}, run, {.in_place = {0}, .finds_amax = 0});
  return dx;
}

/// The layer on x, or on gelu(x), which is not stored in bf16.
Ref layer(Graph& g, Ref x, bool gelu, const Linear& w, bool trains, int level) {
  const int64_t rows = g[x].shape[0], width = g[w.weight].shape[0];
  const Float8 xq = quantize(g, {x, DType::E4M3, trains, gelu}, level);
  const Float8 wq = quantize(g, {w.weight, DType::E4M3, trains});
  Ref y = g.activation(g[w.weight].name + " y", DType::BF16, {rows, width});
  multiply(g, "linear fp8", xq.values, xq.inverse, wq.values, wq.inverse, y, w.bias);
  if (!trains) return y;
  g.on_reverse([=, &g](graph::Reverse& d) {
    Ref dy = d.of(y);
    if (!dy) return;
    const Float8 q = quantize(g, {dy, DType::E5M2, true, false, w.bias ? g.gradient(g[w.bias]) : Ref{}});
    multiply(g, "linear fp8 dW", q.transposed, q.inverse, xq.transposed, xq.inverse, g.gradient(g[w.weight]));
    if (!d.wanted(x)) return;
    if (d.of(x)) throw Error("ERR_INTERNAL", "linear_float8: " + g[x].name + " has another use");
    Ref dx = d.create(x, DType::BF16);
    multiply(g, "linear fp8 dX", q.values, q.inverse, wq.transposed, wq.inverse, dx);
    d.set(x, gelu ? before_gelu(g, d, dx, x) : dx);
  });
  return y;
}

}  // namespace

Ref linear_float8(Graph& g, Ref x, const Linear& w, bool trains) {
  // Once more from where x is recomputed: it is not kept for this.
  return layer(g, x, false, w, trains, g.recompute_level(x));
}
Ref gelu_linear_float8(Graph& g, Ref x, const Linear& w, bool trains, int gelu_level) {
  return layer(g, x, true, w, trains, gelu_level);
}

}  // namespace orch::ops
