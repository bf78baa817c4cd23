// NCCL between the devices of several processes: plain sends and receives, and all-gathers. The library is
// opened at run time.
#pragma once
#include <memory>
#include <string>

#include "../../graph/transport.h"

namespace orch::kernels::cuda {

/// See graph::Device; the offer without the device.
std::string nccl_offer(bool leads);
std::unique_ptr<graph::Transport> nccl_connect(const std::string& leader, int rank, int ranks);

}  // namespace orch::kernels::cuda
