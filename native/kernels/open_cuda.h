// Opens the CUDA device, whose code is a library of its own.
#pragma once
#include <vector>

#include "../graph/device.h"

namespace orch::kernels {

/// The CUDA devices that open_cuda() can open, by ordinal. Throws Error(ERR_CUDA) if there is none, saying
/// why.
std::vector<graph::Device::Description> cuda_devices();

/// Opens CUDA device `ordinal` through liborchestrator_cuda.so, which is next to this program or library, in
/// its subfolder Release, or where ORCHESTRATOR_CUDA says. -1: a device that plans and launches nothing.
/// Throws Error(ERR_CUDA) if the device cannot be opened, saying why.
graph::Device& open_cuda(int ordinal);

}  // namespace orch::kernels
