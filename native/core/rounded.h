// A floating-point number each of whose operations is rounded separately, on the CPU and in GPU kernels.
//
// Where the processor has a fused multiply-add, compilers turn a * b + c into one instruction that rounds
// once, which gives other bits than a machine without it. nvcc does so unless operations are written as
// intrinsic functions, as the operators here are; for the CPU, CMakeLists.txt compiles everything except
// kernels/cpu with -ffp-contract=off.
#pragma once

#if defined(ORCH_ISA)
#error "kernels/cpu is compiled with fused operations; what needs this header belongs outside of it"
#endif

#include "anywhere.h"

namespace orch {

template <class T>
struct Rounded {
  T value;

  Rounded() = default;
  ORCH_ANYWHERE constexpr Rounded(T v) : value(v) {}  // NOLINT: implicit, so that formulas can use constants

#if defined(__CUDA_ARCH__)
#define ORCH_ROUNDED(op, of_double, of_float)                      \
  friend ORCH_ANYWHERE Rounded operator op(Rounded a, Rounded b) { \
    if constexpr (sizeof(T) == 8)                                  \
      return of_double(a.value, b.value);                          \
    else                                                           \
      return of_float(a.value, b.value);                           \
  }
#else
#define ORCH_ROUNDED(op, of_double, of_float) \
  friend ORCH_ANYWHERE Rounded operator op(Rounded a, Rounded b) { return a.value op b.value; }
#endif
  ORCH_ROUNDED(+, __dadd_rn, __fadd_rn)
  ORCH_ROUNDED(-, __dsub_rn, __fsub_rn)
  ORCH_ROUNDED(*, __dmul_rn, __fmul_rn)
  ORCH_ROUNDED(/, __ddiv_rn, __fdiv_rn)
#undef ORCH_ROUNDED
  friend ORCH_ANYWHERE Rounded operator-(Rounded a) { return -a.value; }
  friend ORCH_ANYWHERE bool operator<(Rounded a, Rounded b) { return a.value < b.value; }
  friend ORCH_ANYWHERE bool operator>(Rounded a, Rounded b) { return a.value > b.value; }
};

}  // namespace orch
