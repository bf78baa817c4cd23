// What each source in this folder adds to the table of its instruction set.
#pragma once
#include "functions.h"

namespace orch::kernels::ORCH_ISA {

const Table* table();

#define ORCH_CPU_FAMILIES(EACH) ORCH_KERNEL_FAMILIES(EACH) EACH(attention_backward) EACH(matmul)
ORCH_CPU_FAMILIES(ORCH_DECLARE_FAMILY)

}  // namespace orch::kernels::ORCH_ISA
