#pragma once
#include "../../../graph/device.h"

namespace orch::emulate {
/// Runs the threads of a block from the last to the first.
extern bool backwards;
}  // namespace orch::emulate

namespace orch::kernels::cuda {

/// The device that runs the CUDA kernels on the CPU, for tests.
graph::Device& emulated_device();
const Table& table();

}  // namespace orch::kernels::cuda
