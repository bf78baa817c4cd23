#include "families.h"

namespace orch::kernels::cuda {

const Table& table() {
  static const Table filled = [] {
    Table t{};
    t.isa = "cuda";
    t.fast_bf16 = true;
#define ORCH_FILL(name) fill_##name(t);
    ORCH_CUDA_FAMILIES(ORCH_FILL)
    return t;
  }();
  return filled;
}

}  // namespace orch::kernels::cuda
