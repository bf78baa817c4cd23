// Calls f with a value of the storage type that a DType stands for.
#pragma once
#include "../core/dtype.h"

namespace orch::ops {

template <class F>
void typed(DType t, F f) {
  if (t == DType::F32)
    f(float{});
  else
    f(bf16{});
}

}  // namespace orch::ops
