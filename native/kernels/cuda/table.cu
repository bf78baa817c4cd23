#include <cstring>

#include "families.h"

namespace orch::kernels::cuda {

const Table& table() {
  static const Table filled = [] {
    Table t;
    std::memset(&t, 0, sizeof t);
    t.isa = "cuda";
    t.fast_bf16 = true;
    fill_layer_norm(t);
    fill_gate(t);
    fill_heads(t);
    fill_attention(t);
    fill_elementwise(t);
    fill_patch(t);
    fill_noise(t);
    fill_reduce(t);
    fill_optimizers(t);
    return t;
  }();
  return filled;
}

}  // namespace orch::kernels::cuda
