// Operations between images, timesteps and tokens.
#include "../core/error.h"
#include "ops.h"
#include "run.h"

namespace orch::ops {

using kernels::Typed;

Ref timestep_embedding(Graph& g, Ref timesteps, DType out) {
  const int64_t samples = g[timesteps].shape[0];
  Ref y = g.activation("timestep embedding", out, {samples, 256});
  g.append("timestep embedding", {timesteps}, {y}, typed(out, [=]<class T>(const Run& r, const Typed<T>& k) {
             k.timestep_embedding(r.out<T>(0), r.in<float>(0), samples);
           }));
  return y;
}

namespace {

/// `to` are the patches of the image `from`, stored in type t, or the other way round.
Ref rearrange(Graph& g, const char* name, const char* backward_name, Ref from, Ref to, DType t,
              const kernels::PatchDims& d, bool to_patches) {
  const auto run = [=](bool to_patches) {
    return typed(t, [=]<class T>(const Run& r, const Typed<T>& k) {
      to_patches ? k.to_patches(r.out<T>(0), r.in<float>(0), d)
                 : k.from_patches(r.out<float>(0), r.in<T>(0), d);
    });
  };
  g.append(name, {from}, {to}, run(to_patches));
  g.on_reverse([=, &g](graph::Reverse& reverse) {
    Ref gradient = reverse.of(to);
    if (!gradient || !reverse.wanted(from)) return;
    Ref of_from = reverse.create(from);
    g.append(backward_name, {gradient}, {of_from}, run(!to_patches));
    reverse.set(from, of_from);
  });
  return to;
}

}  // namespace

Ref patchify(Graph& g, Ref z, int64_t patch, DType out) {
  const auto s = g[z].shape;
  if (s[2] % patch || s[3] % patch)
    throw Error("ERR_TENSOR_SHAPE", "Latent height and width must be multiples of patch");
  Ref y = g.activation("patches", out, {s[0] * (s[2] / patch) * (s[3] / patch), s[1] * patch * patch});
  return rearrange(g, "patchify", "patchify backward", z, y, out, {s[0], s[1], s[2], s[3], patch, false},
                   true);
}

Ref unpatchify(Graph& g, Ref x, int64_t samples, int64_t channels, int64_t height, int64_t width,
               int64_t patch) {
  Ref v = g.activation("velocity", DType::F32, {samples, channels, height, width});
  return rearrange(g, "unpatchify", "unpatchify backward", x, v, DType::F32,
                   {samples, channels, height, width, patch, true}, false);
}

Ref add_position(Graph& g, Ref x, Ref position, int64_t samples, DType out) {
  const int64_t tokens = g[position].shape[0], width = g[position].shape[1];
  const DType t = g[x].dtype;
  if (g[x].shape != graph::Shape{samples * tokens, width})
    throw Error("ERR_INTERNAL", "add_position: the tokens are not those of the positions");
  Ref y = g.activation("image tokens", out, g[x].shape);
  const auto run = [=]<class R, class T>(const Run& r, const kernels::Residual<R, T>& k) {
    k.add_position(r.out<R>(0), r.in<T>(0), r.in<float>(1), samples, tokens, width);
  };
  g.append("add position", {x, position}, {y}, typed(out, t, run));
  g.on_reverse([=](graph::Reverse& reverse) {
    if (Ref dy = reverse.of(y)) reverse.set(x, dy);  // in the residual's type; the layer below converts it
  });
  return y;
}

Ref mean_squared_error(Graph& g, Ref v, Ref target, Ref grad_scale) {
  const int64_t samples = g[v].shape[0], n = graph::elements(g[v].shape) / samples;
  Ref loss = g.activation("loss", DType::F32, {samples});
  g[loss].keep = true;
  g.append("mean squared error", {v, target}, {loss}, [=](const Run& r) {
    r.table.raw.mse(r.out<float>(0), nullptr, r.in<float>(0), r.in<float>(1), nullptr, samples, n);
  });
  g.on_reverse([=, &g](graph::Reverse& reverse) {
    Ref dv = reverse.create(v);
    g.append("mean squared error backward", {v, target, grad_scale}, {loss, dv}, [=](const Run& r) {
      r.table.raw.mse(r.out<float>(0), r.out<float>(1), r.in<float>(0), r.in<float>(1), r.in<float>(2),
                      samples, n);
    });
    reverse.set(v, dv);
  });
  return loss;
}

}  // namespace orch::ops
