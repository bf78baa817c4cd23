#include "../core/error.h"
#include "ops.h"
#include "run.h"

namespace orch::ops {

using kernels::Typed;

Ref convert(Graph& g, Ref x, DType out) {
  if (g[x].dtype == out) return x;
  Ref y = g.activation(g[x].name, out, g[x].shape);
  const int64_t n = graph::elements(g[x].shape);
  const bool up = out == DType::F32;
  g.append("convert", {x}, {y}, [=](const Run& r) {
    const auto& k = r.table.b16;
    up ? k.to_f32(r.out<float>(0), r.in<bf16>(0), n) : k.from_f32(r.out<bf16>(0), r.in<float>(0), n);
  });
  return y;
}

Ref silu(Graph& g, Ref x, DType out) {
  if (g[x].dtype != DType::F32) throw Error("ERR_INTERNAL", "silu: its input must be fp32");
  const int64_t n = graph::elements(g[x].shape);
  Ref y = g.activation("silu", out, g[x].shape);
  g[y].gradient_dtype = DType::F32;  // one row per sample: the gradients of many layers accumulate here
  g.append("silu", {x}, {y}, typed(out, [=]<class T>(const Run& r, const Typed<T>& k) {
             k.silu(r.out<T>(0), r.in<float>(0), n);
           }));
  g.on_reverse([=, &g](graph::Reverse& reverse) {
    Ref dy = reverse.of(y);
    if (!dy) return;
    Ref before = reverse.of(x);
    Ref dx = reverse.create(x);
    g.append("silu backward", {dy, x, before}, {dx}, [=](const Run& r) {
      r.table.f32.silu_backward(r.out<float>(0), r.in<float>(2), r.in<float>(0), r.in<float>(1), n);
    });
    reverse.set(x, dx);
  });
  return y;
}

Ref add(Graph& g, Ref a, Ref b) {
  const DType t = g[a].dtype;
  const int64_t n = graph::elements(g[a].shape);
  if (g[b].dtype != t || g[a].shape != g[b].shape) throw Error("ERR_INTERNAL", "add: shapes or types differ");
  Ref y = g.activation("sum", t, g[a].shape);
  g.append("add", {a, b}, {y}, typed(t, [=]<class T>(const Run& r, const Typed<T>& k) {
             k.add(r.out<T>(0), r.in<T>(0), r.in<T>(1), n);
           }));
  g.on_reverse([=](graph::Reverse& reverse) {
    Ref dy = reverse.of(y);
    if (!dy) return;
    if (reverse.of(a) || reverse.of(b)) throw Error("ERR_INTERNAL", "add: a term has another use after it");
    reverse.set(a, dy);
    reverse.set(b, dy);
  });
  return y;
}

}  // namespace orch::ops
