// Operations between images, timesteps and tokens.
#include "../core/error.h"
#include "ops.h"
#include "typed.h"

namespace orch::ops {

Ref timestep_embedding(Graph& g, Ref timesteps, DType out) {
  const int64_t samples = g[timesteps].shape[0];
  Ref y = g.activation("timestep embedding", out, {samples, 256});
  typed(out, [&]<class T>(T) {
    g.append("timestep embedding", {timesteps}, {y}, [=](const graph::Run& r) {
      r.table.typed<T>().timestep_embedding(r.out<T>(0), r.in<float>(0), samples);
    });
  });
  return y;
}

Ref patchify(Graph& g, Ref z, int64_t patch, DType out) {
  const auto s = g[z].shape;
  const kernels::PatchDims d{s[0], s[1], s[2], s[3], patch};
  if (s[2] % patch || s[3] % patch)
    throw Error("ERR_TENSOR_SHAPE", "Latent height and width must be multiples of patch");
  Ref y = g.activation("patches", out, {s[0] * (s[2] / patch) * (s[3] / patch), s[1] * patch * patch});
  typed(out, [&]<class T>(T) {
    g.append("patchify", {z}, {y},
             [=](const graph::Run& r) { r.table.typed<T>().patchify(r.out<T>(0), r.in<float>(0), d); });
  });
  g.on_reverse([=, &g](graph::Reverse& reverse) {
    Ref dy = reverse.of(y);
    if (!dy || !reverse.wanted(z)) return;
    Ref dz = reverse.create(z);
    typed(out, [&]<class T>(T) {
      g.append("patchify backward", {dy}, {dz}, [=](const graph::Run& r) {
        r.table.typed<T>().patchify_backward(r.out<float>(0), r.in<T>(0), d);
      });
    });
    reverse.set(z, dz);
  });
  return y;
}

Ref unpatchify(Graph& g, Ref x, int64_t samples, int64_t channels, int64_t height, int64_t width,
               int64_t patch) {
  const kernels::PatchDims d{samples, channels, height, width, patch};
  Ref v = g.activation("velocity", DType::F32, {samples, channels, height, width});
  g.append("unpatchify", {x}, {v},
           [=](const graph::Run& r) { r.table.raw.unpatchify(r.out<float>(0), r.in<float>(0), d); });
  g.on_reverse([=, &g](graph::Reverse& reverse) {
    Ref dv = reverse.of(v);
    if (!dv) return;
    Ref dx = reverse.create(x);
    g.append("unpatchify backward", {dv}, {dx}, [=](const graph::Run& r) {
      r.table.raw.unpatchify_backward(r.out<float>(0), r.in<float>(0), d);
    });
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
  typed(out, t, [&]<class R, class T>(R, T) {
    g.append("add position", {x, position}, {y}, [=](const graph::Run& r) {
      r.table.residual<R, T>().add_position(r.out<R>(0), r.in<T>(0), r.in<float>(1), samples, tokens, width);
    });
  });
  g.on_reverse([=](graph::Reverse& reverse) {
    if (Ref dy = reverse.of(y)) reverse.set(x, dy);  // in the residual's type; the layer below converts it
  });
  return y;
}

Ref mean_squared_error(Graph& g, Ref v, Ref target, Ref grad_scale) {
  const int64_t samples = g[v].shape[0], n = graph::elements(g[v].shape) / samples;
  Ref loss = g.activation("loss", DType::F32, {samples});
  g[loss].keep = true;
  g.append("mean squared error", {v, target}, {loss}, [=](const graph::Run& r) {
    r.table.raw.mse(r.out<float>(0), nullptr, r.in<float>(0), r.in<float>(1), nullptr, samples, n);
  });
  g.on_reverse([=, &g](graph::Reverse& reverse) {
    Ref dv = reverse.create(v);
    g.append("mean squared error backward", {v, target, grad_scale}, {loss, dv}, [=](const graph::Run& r) {
      r.table.raw.mse(r.out<float>(0), r.out<float>(1), r.in<float>(0), r.in<float>(1), r.in<float>(2),
                      samples, n);
    });
    reverse.set(v, dv);
  });
  return loss;
}

}  // namespace orch::ops
