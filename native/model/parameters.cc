// The parameter table under the official names.
#include <algorithm>

#include "../core/error.h"
#include "mmdit.h"

namespace orch {

bool ModelSpec::dual(int64_t block) const {
  return std::find(dual_attention.begin(), dual_attention.end(), block) != dual_attention.end();
}

void ModelSpec::check() const {
  auto positive = [](int64_t v, int64_t most, const char* what) {
    if (v < 1 || v > most)
      throw Error("ERR_MODEL_SPEC", std::string(what) + " must be between 1 and " + std::to_string(most) +
                                        ", received " + std::to_string(v));
  };
  positive(depth, 1024, "depth");
  positive(heads, 1024, "heads");
  positive(patch, 64, "patch");
  positive(latent_channels, 1024, "latent_channels");
  positive(context_dim, 1 << 20, "context_dim");
  positive(pooled_dim, 1 << 20, "pooled_dim");
  positive(pos_embed_max_size, 4096, "pos_embed_max_size");
  for (int64_t b : dual_attention)
    if (b < 0 || b >= depth)
      throw Error("ERR_MODEL_SPEC", "dual_attention names block " + std::to_string(b) +
                                        " of a model of depth " + std::to_string(depth));
}

ParameterTable::ParameterTable(const ModelSpec& spec) {
  spec.check();
  using Init = Parameter::Init;
  const int64_t h = spec.hidden(), features = spec.latent_channels * spec.patch * spec.patch;
  auto add = [&](std::string name, graph::Shape shape, Init init) {
    const int64_t n = graph::elements(shape);
    parameters.push_back({std::move(name), std::move(shape), length, n, init});
    length += (n + 15) / 16 * 16;
    count += n;
  };
  auto linear = [&](const std::string& name, int64_t out, int64_t in, Init init) {
    add(name + ".weight", {out, in}, init);
    add(name + ".bias", {out}, Init::Zero);
  };
  auto attention = [&](const std::string& name, bool with_output) {
    linear(name + ".qkv", 3 * h, h, Init::Xavier);
    if (with_output) linear(name + ".proj", h, h, Init::Xavier);
    if (spec.qk_norm) {
      add(name + ".ln_q.weight", {kernels::kHeadDim}, Init::One);
      add(name + ".ln_k.weight", {kernels::kHeadDim}, Init::One);
    }
  };
  auto mlp = [&](const std::string& name) {
    linear(name + ".fc1", 4 * h, h, Init::Xavier);
    linear(name + ".fc2", h, 4 * h, Init::Xavier);
  };
  int64_t start = 0;
  auto close_bucket = [&] {
    buckets.push_back({start, length - start});
    start = length;
  };

  linear("final_layer.linear", features, h, Init::Zero);
  linear("final_layer.adaLN_modulation.1", 2 * h, h, Init::Zero);
  for (int64_t b = spec.depth - 1; b >= 0; --b) {
    const std::string block = "joint_blocks." + std::to_string(b);
    const std::string x = block + ".x_block", c = block + ".context_block";
    const bool last = b == spec.depth - 1, dual = spec.dual(b);
    attention(x + ".attn", true);
    if (dual) attention(x + ".attn2", true);
    mlp(x + ".mlp");
    linear(x + ".adaLN_modulation.1", (dual ? 9 : 6) * h, h, Init::Zero);
    attention(c + ".attn", !last);
    if (!last) mlp(c + ".mlp");
    linear(c + ".adaLN_modulation.1", (last ? 2 : 6) * h, h, Init::Zero);
    close_bucket();
  }
  add("x_embedder.proj.weight", {h, spec.latent_channels, spec.patch, spec.patch}, Init::Xavier);
  add("x_embedder.proj.bias", {h}, Init::Zero);
  linear("t_embedder.mlp.0", h, 256, Init::Normal);
  linear("t_embedder.mlp.2", h, h, Init::Normal);
  linear("y_embedder.mlp.0", h, spec.pooled_dim, Init::Normal);
  linear("y_embedder.mlp.2", h, h, Init::Normal);
  linear("context_embedder", h, spec.context_dim, Init::Xavier);
  close_bucket();
}

const Parameter& ParameterTable::operator[](const std::string& name) const {
  for (const Parameter& p : parameters)
    if (p.name == name) return p;
  throw Error("ERR_INTERNAL", "No parameter " + name);
}

}  // namespace orch
