// The kernel table of one instruction set.
#include "families.h"

namespace orch::kernels::ORCH_ISA {

const Table* table() {
  static const Table filled = [] {
    Table t;
    std::memset(&t, 0, sizeof t);
    t.isa = ORCH_ISA_NAME;
#if defined(ORCH_PAIRS)
    t.fast_bf16 = true;
#else
    t.fast_bf16 = false;
#endif
    fill_layer_norm(t);
    fill_gate(t);
    fill_heads(t);
    fill_attention(t);
    fill_attention_backward(t);
    fill_elementwise(t);
    fill_patch(t);
    fill_noise(t);
    fill_reduce(t);
    fill_optimizers(t);
    fill_matmul(t);
    return t;
  }();
  return &filled;
}

}  // namespace orch::kernels::ORCH_ISA
