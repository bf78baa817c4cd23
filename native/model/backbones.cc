// The backbones by name.
#include "../core/error.h"
#include "model.h"

namespace orch {
namespace {

const Backbone* const kBackbones[] = {&kMmdit};

}  // namespace

const Backbone& backbone_of(const ModelSpec& spec) {
  std::string names;
  for (const Backbone* b : kBackbones) {
    if (spec.backbone == b->name) return *b;
    names += (names.empty() ? "" : ", ") + std::string(b->name);
  }
  throw Error("ERR_MODEL_SPEC", "backbone must be one of " + names + ", received " + spec.backbone);
}

std::unique_ptr<ModelGraph> build_model(const ModelSpec& spec, const ParameterTable& table,
                                        const BatchShape& shape, const GraphOptions& options) {
  auto out = std::make_unique<ModelGraph>(options.backend);
  backbone_of(spec).build(*out, spec, table, shape, options);
  return out;
}

}  // namespace orch
