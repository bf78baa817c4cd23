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

Ref patchify(Graph& g, Ref z, int64_t patch, DType out) {
  const auto s = g[z].shape;
  const kernels::PatchDims d{s[0], s[1], s[2], s[3], patch, false};
  if (s[2] % patch || s[3] % patch)
    throw Error("ERR_TENSOR_SHAPE", "Latent height and width must be multiples of patch");
  Ref y = g.activation("patches", out, {s[0] * (s[2] / patch) * (s[3] / patch), s[1] * patch * patch});
  g.append("patchify", {z}, {y}, typed(out, [=]<class T>(const Run& r, const Typed<T>& k) {
             k.to_patches(r.out<T>(0), r.in<float>(0), d);
           }));
  g.on_reverse([=, &g](graph::Reverse& reverse) {
    Ref dy = reverse.of(y);
    if (!dy || !reverse.wanted(z)) return;
    Ref dz = reverse.create(z);
    g.append("patchify backward", {dy}, {dz}, typed(out, [=]<class T>(const Run& r, const Typed<T>& k) {
               k.from_patches(r.out<float>(0), r.in<T>(0), d);
             }));
    reverse.set(z, dz);
  });
  return y;
}

Ref unpatchify(Graph& g, Ref x, int64_t samples, int64_t channels, int64_t height, int64_t width,
               int64_t patch) {
  const kernels::PatchDims d{samples, channels, height, width, patch, true};
  Ref v = g.activation("velocity", DType::F32, {samples, channels, height, width});
  g.append("unpatchify", {x}, {v},
           [=](const Run& r) { r.table.f32.from_patches(r.out<float>(0), r.in<float>(0), d); });
  g.on_reverse([=, &g](graph::Reverse& reverse) {
    Ref dv = reverse.of(v);
    if (!dv) return;
    Ref dx = reverse.create(x);
    g.append("unpatchify backward", {dv}, {dx},
             [=](const Run& r) { r.table.f32.to_patches(r.out<float>(0), r.in<float>(0), d); });
    reverse.set(x, dx);
  });
  return v;
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
