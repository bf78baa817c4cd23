// Which products compute GELU, or its derivative, in cuBLASLt's epilogue.
#pragma once
#include "../../graph/graph.h"

namespace orch::kernels::cuda {

/// Whether a product with an epilogue is one operation of the library, rather than a product and a pass of
/// this project's own kernel. Decided once for each product:
/// - only bf16 products are fused;
/// - ORCHESTRATOR_CUDA_GELU=fused or separate decides; or else the product's line in the file of
///   ORCHESTRATOR_CUDA_ALGORITHMS; or else fused_by_default();
/// - the library must have an algorithm, and its results must be those of a product and a pass, within bf16's
///   precision, with the same bits twice. Otherwise it is not fused; ORCHESTRATOR_CUDA_GELU=fused is then an
///   Error(ERR_CUDA).
/// Nothing is timed here, because two processes could then decide differently and get different bits.
bool fuses_gelu(const graph::MatmulSpec& spec);

/// The rule without a measurement. `major`: of the GPU's compute capability.
constexpr bool fused_by_default(int major) { return major >= 9; }

}  // namespace orch::kernels::cuda
