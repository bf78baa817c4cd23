// The limits of a model, and the table of its parameters.
#include <algorithm>

#include "../core/error.h"
#include "model.h"

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
  backbone_of(spec).parameters(spec, *this);
}

void ParameterTable::add(std::string name, graph::Shape shape, Parameter::Init init) {
  const int64_t n = graph::elements(shape);
  parameters.push_back({std::move(name), std::move(shape), length, n, init});
  length += (n + 15) / 16 * 16;
  count += n;
}

void ParameterTable::add_linear(const std::string& name, int64_t out, int64_t in, Parameter::Init init) {
  add(name + ".weight", {out, in}, init);
  add(name + ".bias", {out}, Parameter::Init::Zero);
}

void ParameterTable::close_bucket() {
  const int64_t start = buckets.empty() ? 0 : buckets.back().offset + buckets.back().length;
  buckets.push_back({start, length - start});
}

const Parameter& ParameterTable::operator[](const std::string& name) const {
  for (const Parameter& p : parameters)
    if (p.name == name) return p;
  throw Error("ERR_INTERNAL", "No parameter " + name);
}

}  // namespace orch
