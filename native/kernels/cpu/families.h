// What each source in this folder adds to the table of its instruction set.
#pragma once
#include "functions.h"

namespace orch::kernels::ORCH_ISA {

const Table* table();

#define ORCH_CPU_FAMILIES(EACH) ORCH_KERNEL_FAMILIES(EACH) EACH(attention_backward) EACH(matmul)
ORCH_CPU_FAMILIES(ORCH_DECLARE_FAMILY)

/// One row of the gated residual.
template <class R, class T>
ORCH_INLINE void gate_row(R* out, const R* x, const T* y, const float* gate, int64_t width) {
  for (int64_t i = 0; i < width; i += 2 * kLanes) {
    store2(out + i, load(x + i) + load(gate + i) * load(y + i),
           load(x + i + kLanes) + load(gate + i + kLanes) * load(y + i + kLanes));
  }
}

}  // namespace orch::kernels::ORCH_ISA
