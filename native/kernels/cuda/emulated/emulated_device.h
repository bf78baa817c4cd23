#pragma once
#include "../../../graph/device.h"

namespace orch::emulate {
/// Threads of a block take turns from the last to the first.
extern bool backwards;
}  // namespace orch::emulate

namespace orch::kernels::cuda {

/// Runs CUDA's kernels on the CPU; for tests.
graph::Device& emulated_device();
const Table& table();

}  // namespace orch::kernels::cuda
