// Matmuls by cuBLASLt.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../../graph/graph.h"

namespace orch::kernels::cuda {

bool plans_only();
std::string matmul_version();
/// The type in which the library reads the bias of a product.
DType bias_type(graph::MatmulSpec spec);
/// Whether the library computes the product and its sums in one operation.
bool sums_with(const graph::MatmulSpec& spec);
/// What the file of ORCHESTRATOR_CUDA_ALGORITHMS says of a product: the number of an algorithm, or
/// "separate".
std::optional<std::string> noted(const graph::MatmulSpec& spec);
/// Whether the library has an algorithm for a product.
bool has_algorithm(const graph::MatmulSpec& spec);
std::unique_ptr<graph::Op> make_matmul(const char* name, const graph::MatmulSpec& spec);
/// Seconds of one product with each algorithm, in the library's order; 1e30 for one that fails. Empty if the
/// library has none for the product's epilogue.
std::vector<double> time_algorithms(const graph::MatmulSpec& spec,
                                    const std::function<double(const std::function<void()>&)>& time);

}  // namespace orch::kernels::cuda
