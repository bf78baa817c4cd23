// Faults for tests, at named points of native code, where TypeScript comes to nothing of it. They exist only
// in the addon that `bash scripts/build-native.sh --faults` builds (-DORCH_FAULTS=ON). Elsewhere these macros
// are empty, and no file of this folder is compiled.
//
//   ORCH_FAULT(updating);           this thread has come to the point
//   ORCH_FAULT_IF(i == 3, copying);  the same where that holds
//   ORCH_FAULT_STEP(step);          the engine computes this step, or has the state after it
//   ORCH_FAULT_SERVES();            the state is about to be sent to another process
#pragma once
#ifdef ORCH_FAULTS
#include <cstdint>
#include <string>
#include <vector>

/// The points, in the order in which a step comes to them, and what is half done there.
#define ORCH_FAULT_POINTS(X)                                                       \
  X(forward)  /* the nodes of a micro-batch's forward pass */                      \
  X(backward) /* those of its backward pass */                                     \
  X(summing)  /* the pieces of the gradient's sum in shared memory */              \
  X(adding)   /* the same with gRPC: what has come from another worker is added */ \
  X(updating) /* the pieces of the update: one is taken, and not changed */        \
  X(stamping) /* shared: a piece is changed, and not marked as done */             \
  X(mending)  /* shared: a piece that a killed worker has left is restored */      \
  X(hashing)  /* the pieces of the state's digest */                               \
  X(copying)  /* the arrays of the state, copied for a checkpoint */               \
  X(staging)  /* the files of a checkpoint */                                      \
  X(serving)  /* the state's pieces on their way to another worker */

namespace orch::faults {

#define ORCH_FAULT_POINT(name) name,
enum class Point { ORCH_FAULT_POINTS(ORCH_FAULT_POINT) };
#undef ORCH_FAULT_POINT

/// The names, as in Point.
const std::vector<std::string>& points();
/// This process has a fault at this point: the first time that it comes there at this step or a later one.
/// Who computes a piece is not known beforehand, so it may not come there in every step.
/// @param how "kill", "stop", "hang" or "segv"
void plan(Point point, int64_t step, const std::string& how);

void reached(Point point);
void step(int64_t step);
void serves();

}  // namespace orch::faults
#define ORCH_FAULT(point) ::orch::faults::reached(::orch::faults::Point::point)
#define ORCH_FAULT_IF(holds, point) ((holds) ? ORCH_FAULT(point) : static_cast<void>(0))
#define ORCH_FAULT_STEP(number) ::orch::faults::step(number)
#define ORCH_FAULT_SERVES() ::orch::faults::serves()
#else
#define ORCH_FAULT(point) static_cast<void>(0)
#define ORCH_FAULT_IF(holds, point) static_cast<void>(0)
#define ORCH_FAULT_STEP(number) static_cast<void>(0)
#define ORCH_FAULT_SERVES() static_cast<void>(0)
#endif
