// What each source in this folder adds to the table of its instruction set.
#pragma once
#include "functions.h"

namespace orch::kernels::ORCH_ISA {

const Table* table();

void fill_layer_norm(Table& t);
void fill_gate(Table& t);
void fill_heads(Table& t);
void fill_attention(Table& t);
void fill_attention_backward(Table& t);
void fill_elementwise(Table& t);
void fill_patch(Table& t);
void fill_noise(Table& t);
void fill_reduce(Table& t);
void fill_optimizers(Table& t);
void fill_matmul(Table& t);

/// One row of the gated residual.
template <class R, class T>
ORCH_INLINE void gate_row(R* out, const R* x, const T* y, const float* gate, int64_t width) {
  for (int64_t i = 0; i < width; i += 2 * kLanes) {
    store2(out + i, load(x + i) + load(gate + i) * load(y + i),
           load(x + i + kLanes) + load(gate + i + kLanes) * load(y + i + kLanes));
  }
}

}  // namespace orch::kernels::ORCH_ISA
