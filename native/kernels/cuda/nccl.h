// NCCL between the devices of several processes: grouped send/recv and all-gather. The library is opened at
// run time.
#pragma once
#include <memory>
#include <string>

#include "../../graph/transport.h"

namespace orch::kernels::cuda {

/// As in graph::Device; the rendezvous string without the device's UUID. Both throw Error(ERR_CUDA) if NCCL
/// is not available; nccl_connect throws Error(ERR_EXCHANGE) for a malformed string.
std::string nccl_rendezvous(bool leads);
std::unique_ptr<graph::Transport> nccl_connect(const std::string& leader, int rank, int ranks);

}  // namespace orch::kernels::cuda
