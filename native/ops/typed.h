// Calls f with a value of the storage type that `t` names.
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

/// The same with two types: the residual stream's and the activations'. An fp32 residual may be combined with
/// bf16 activations, but not the other way round.
template <class F>
void typed(DType residual, DType activation, F f) {
  if (activation == DType::F32)
    f(float{}, float{});
  else if (residual == DType::F32)
    f(float{}, bf16{});
  else
    f(bf16{}, bf16{});
}

}  // namespace orch::ops
