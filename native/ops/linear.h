// The parts of a linear layer, for the operations that extend it.
#pragma once
#include "ops.h"

namespace orch::ops {

/// The product x W^T + b.
graph::MatmulSpec product_of(const Graph& g, Ref x, const Linear& w, DType out);
/// The bias in the type that the product reads, or none.
Ref bias_of(Graph& g, const Linear& w, const graph::MatmulSpec& product);
/// Registers the backward rule of y = x.y W^T + b.
void on_reverse_linear(Graph& g, const Activated& x, const Linear& w, Ref y);

}  // namespace orch::ops
