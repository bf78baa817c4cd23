// One update of the weights, as the engine asks for it and as a kernel reads it.
#pragma once
#include <cstdint>

#include "../core/dtype.h"

namespace orch::optim {

/// The gradient is multiplied by grad_scale (clipping). ema_decay is that of the moving average of the
/// weights; 1 leaves it unchanged.
struct UpdateRequest {
  int64_t step;  ///< 1 for the first update
  double lr, beta1, beta2, eps, weight_decay, grad_scale, ema_decay;
};

constexpr int kMostFactors = 16;

/// The factors of an update, computed in double (1 - 0.999f differs from 0.001 by a relative 1.3e-5), then
/// rounded to fp32: those of every optimizer, and Rule::Factors<float>.
struct Update {
  float grad_scale;
  float ema, one_minus_ema;  ///< ema = decay * ema + (1 - decay) * w
  float rule[kMostFactors];
};

/// One pass over w, its moments, EMA and bf16 copy, n elements each. moments: by index, an array in host
/// memory. w16 and ema may be null. `update` is in the same memory as the arrays.
using UpdateKernel = void (*)(float* w, float* const* moments, float* ema, bf16* w16, const float* grad,
                              int64_t n, const Update* update);

class UndoLog;
/// The same on the CPU, but another process can finish it where this one is killed (undo_log.h).
using LoggedUpdateKernel = void (*)(float* w, float* const* moments, float* ema, bf16* w16, const float* grad,
                                    int64_t n, const Update* update, UndoLog* log);

}  // namespace orch::optim
