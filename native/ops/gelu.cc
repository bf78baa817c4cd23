// GELU, alone and with the linear layer before it.
#include "../core/error.h"
#include "linear.h"
#include "run.h"

namespace orch::ops {
namespace {

using kernels::Typed;

std::unique_ptr<graph::Op> gelu_op(DType t, int64_t n) {
  const Pieces pieces{n};
  const auto forward = [=]<class T>(const Run& r, const Typed<T>& k) {
    const int64_t at = pieces.begin(r);
    k.gelu(r.out<T>(0) + at, r.in<T>(0) + at, pieces.end(r) - at);
  };
  return graph::make_op("gelu", typed(t, forward), {.parts = pieces.parts(), .in_place = {0}});
}

/// Registers the backward rule of y = gelu(x). It has nothing to do where the layer that reads y has given
/// the gradient of x.
void on_reverse_gelu(Graph& g, Ref x, Ref y) {
  g.on_reverse([=, &g](graph::Reverse& reverse) {
    Ref dy = reverse.of(y);
    if (!dy) return;
    if (reverse.of(x)) throw Error("ERR_INTERNAL", "gelu: ", g[x].name, " has another use after it");
    Ref dx = reverse.create(x);
    const Pieces pieces{graph::elements(g[x].shape)};
    const auto backward = [=]<class T>(const Run& r, const Typed<T>& k) {
      const int64_t at = pieces.begin(r);
      k.gelu_backward(r.out<T>(0) + at, r.in<T>(0) + at, r.in<T>(1) + at, pieces.end(r) - at, r.amax);
    };
    g.append("gelu backward", {dy, x}, {dx}, typed(g[x].dtype, backward),
             {.parts = pieces.parts(), .in_place = {0}, .finds_amax = 0});
    reverse.set(x, dx);
  });
}

}  // namespace

Ref gelu(Graph& g, Ref x) {
  const DType t = g[x].dtype;
  Ref y = g.activation("gelu", t, g[x].shape);
  g.append(gelu_op(t, graph::elements(g[x].shape)), {x}, {y});
  on_reverse_gelu(g, x, y);
  return y;
}

Activated linear_gelu(Graph& g, Ref x, const Linear& w, bool backward, int gelu_level) {
  const DType t = g[x].dtype;
  graph::MatmulSpec product = product_of(g, x, w, t);
  product.epilogue = backward ? graph::Epilogue::GeluKeep : graph::Epilogue::Gelu;
  if (!g.backend().fuses(product)) {
    Ref before = linear(g, x, w, t);
    g.set_recompute_level(gelu_level);
    return {before, gelu(g, before)};
  }
  const graph::Shape shape{product.m, product.n};
  const Activated a{backward ? g.activation(g[w.weight].name + " y", t, shape) : Ref{},
                    g.activation("gelu", t, shape)};
  g.append(g.backend().matmul("linear gelu", product), {x, w.weight, bias_of(g, w, product)},
           {a.y, a.before});
  if (!backward) return a;
  on_reverse_linear(g, {{}, x}, w, a.before);
  g.recompute_by(gelu_op(t, product.m * product.n), {a.before}, {a.y}, gelu_level);
  on_reverse_gelu(g, a.before, a.y);
  return a;
}

}  // namespace orch::ops
