// The kernel table of one instruction set.
#include "families.h"

namespace orch::kernels::ORCH_ISA {

const Table* table() {
  static const Table filled = [] {
    Table t{};
    t.isa = ORCH_ISA_NAME;
#if defined(ORCH_PAIRS)
    t.fast_bf16 = true;
#endif
#define ORCH_FILL(name) fill_##name(t);
    ORCH_CPU_FAMILIES(ORCH_FILL)
    return t;
  }();
  return &filled;
}

}  // namespace orch::kernels::ORCH_ISA
