#pragma once
#include <memory>
#include <string>

#include "../../../graph/transport.h"

namespace orch::kernels::cuda {

/// As in graph::Device. Between processes of one machine, for tests.
std::string emulated_rendezvous(int ordinal, bool leads);
std::unique_ptr<graph::Transport> emulated_connect(const std::string& leader, int rank, int ranks);

}  // namespace orch::kernels::cuda
