#include "linear.h"

#include "../core/error.h"
#include "run.h"

namespace orch::ops {
namespace {

using graph::MatmulSpec;

class CpuBackend final : public graph::Backend {
 public:
  const kernels::Table& kernels() const override { return kernels::cpu(); }
  std::unique_ptr<graph::Op> matmul(const char* name, const MatmulSpec& s) const override {
    if (is_float8(s.a)) {  // planned for a device, not run
      const auto refuse = [name = std::string(name)](const Run&) {
        throw Error("ERR_INTERNAL", name, ": the CPU has no matmuls of 8-bit floats");
      };
      return graph::make_op(name, refuse, {.flops = s.flops()});
    }
    if (s.a != s.b || s.a == DType::F16 || s.c == DType::F16 || (s.accumulate && s.c != DType::F32))
      throw Error("ERR_INTERNAL", "matmul: no kernel for ", graph::key_of(s));
    const kernels::Matmul& m = kernels().matmul_of(s.a);
    const auto run = [&m, s](const Run& r) {
      MatmulSpec spec = s;
      spec.accumulate = s.accumulate || r.adds;
      m.run(r.out<void>(0), r.in<void>(0), r.in<void>(1), r.in<float>(2), spec, r.from, r.to, r.scratch);
    };
    return graph::make_op(
        name, run,
        {.parts = m.parts(s), .grain = m.grain(s), .flops = s.flops(), .scratch_bytes = m.scratch_bytes(s)});
  }
};

void append_column_sum(Graph& g, Ref dy, Ref db, int64_t rows, int64_t width) {
  const Pieces columns{width, rows < 64 ? width : 128};
  const auto run = [=]<class T>(const Run& r, const kernels::Typed<T>& k) {
    const int64_t at = columns.begin(r), n = columns.end(r) - at;
    graph::write_gradient(r, r.out<float>(0) + at, n,
                          [&](float* to) { k.column_sum(to, r.in<T>(0) + at, rows, n, width); });
  };
  g.append("bias gradient", {dy}, {db}, typed(g[dy].dtype, run),
           {.parts = columns.parts(), .scratch_bytes = sizeof(float) * static_cast<size_t>(width)});
}

/// The gradient before GELU, whose result is the layer's input x.y, in one product. False if the backend does
/// not fuse them.
bool append_dx_before_gelu(Graph& g, graph::Reverse& d, Ref dy, const Activated& x, const Linear& w) {
  const DType t = g[x.y].dtype;
  MatmulSpec product{g[dy].shape[0], g[x.y].shape[1], g[dy].shape[1], t, t, t, false, false, false, false};
  product.epilogue = graph::Epilogue::GeluBackward;
  if (d.of(x.y) || !g.backend().fuses(product)) return false;
  Ref dx = d.create(x.before);
  g.append(g.backend().matmul("linear dX gelu", product), {dy, w.weight, {}, x.before}, {dx});
  d.set(x.before, dx);
  return true;
}

}  // namespace

MatmulSpec product_of(const Graph& g, Ref x, const Linear& w, DType out) {
  const int64_t rows = g[x].shape[0], in = g[x].shape[1], width = g[w.weight].shape[0];
  const DType t = g[x].dtype;
  if (graph::elements(g[w.weight].shape) != in * width || g[w.weight].dtype != t)
    throw Error("ERR_INTERNAL", "linear: " + g[w.weight].name + " does not fit its input " + g[x].name);
  MatmulSpec product{rows, width, in, t, t, out, false, true, bool(w.bias), false};
  if (w.bias) product.bias_type = g.backend().bias_type(product);
  return product;
}

Ref bias_of(Graph& g, const Linear& w, const MatmulSpec& product) {
  if (product.bias_type == DType::F32) return w.bias;
  // The copy of the weights in this type has the biases, too.
  return g.parameter(g[w.bias].name, product.bias_type, g[w.bias].shape, g[w.bias].offset);
}

void on_reverse_linear(Graph& g, const Activated& input, const Linear& w, Ref y) {
  g.on_reverse([=, &g](graph::Reverse& d) {
    const Ref x = input.y;
    const int64_t rows = g[x].shape[0], in = g[x].shape[1], width = g[w.weight].shape[0];
    const DType t = g[x].dtype;
    Ref dy = d.of(y);
    if (!dy) return;
    MatmulSpec gradient{width, in, rows, t, t, DType::F32, true, false, false, false};
    gradient.sums = w.bias && g[dy].dtype == t;  // otherwise the bias gradient uses dy before rounding
    gradient.sums = gradient.sums && g.backend().sums_with(gradient);
    if (w.bias && !gradient.sums) append_column_sum(g, dy, g.gradient(g[w.bias]), rows, width);
    dy = convert(g, dy, t);  // for the matmuls
    g.append(g.backend().matmul("linear dW", gradient), {dy, x, {}},
             {g.gradient(g[w.weight]), gradient.sums ? g.gradient(g[w.bias]) : Ref{}});
    if (!d.wanted(x)) return;
    if (input.before && append_dx_before_gelu(g, d, dy, input, w)) return;
    // Many layers read the conditioning vector: its gradient accumulates in place.
    Ref dx = d.of(x);
    const bool accumulate = bool(dx);
    if (!dx) dx = d.create(x, g[x].gradient_dtype);
    g.append(g.backend().matmul("linear dX",
                                {rows, in, width, t, t, g[dx].dtype, false, false, false, accumulate}),
             {dy, w.weight, {}, accumulate ? dx : Ref{}}, {dx});
    d.set(x, dx);
  });
}

Ref linear(Graph& g, const Activated& x, const Linear& w, DType out) {
  const MatmulSpec product = product_of(g, x.y, w, out);
  Ref y = g.activation(g[w.weight].name + " y", out, {product.m, product.n});
  g.append(g.backend().matmul("linear", product), {x.y, w.weight, bias_of(g, w, product)}, {y});
  on_reverse_linear(g, x, w, y);
  return y;
}
Ref linear(Graph& g, Ref x, const Linear& w, DType out) { return linear(g, Activated{{}, x}, w, out); }

}  // namespace orch::ops

namespace orch::graph {

const Backend& cpu_backend() {
  static const ops::CpuBackend backend;
  return backend;
}

}  // namespace orch::graph
