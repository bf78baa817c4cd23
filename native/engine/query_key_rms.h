// An observation of a model, for the check of imported weights: how large queries and keys are.
#pragma once
#include <string>
#include <vector>

#include "engine.h"

namespace orch {

/// Root mean square of queries and keys before their normalisation, over samples, tokens and heads.
struct QueryKeyRms {
  std::string attention;  ///< "joint_blocks.0.x_block.attn"
  double query, key;
};
/// Measures every attention in the forward passes of a batch, which may have any number of samples.
std::vector<QueryKeyRms> query_key_rms(Engine& engine, const RawBatch& batch, State weights);

}  // namespace orch
