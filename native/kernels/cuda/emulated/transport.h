#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "../../../graph/transport.h"

namespace orch::kernels::cuda {

/// What a device's memory holds at a point of its stream, by the address of each allocation.
using Contents = std::map<char*, std::vector<char>>;
/// Is called at every call of a transport with the call's number, from 0. The call throws what it throws, and
/// the transport is at its end, as after a fault of NCCL or of the process.
using AtCall = std::function<void(int call)>;

/// As in graph::Device. Between devices of one process or of several processes of a machine, for tests.
std::string emulated_rendezvous(int ordinal, bool leads);
std::unique_ptr<graph::Transport> emulated_connect(const std::string& leader, int rank, int ranks,
                                                   std::function<Contents()> contents, AtCall at_call);

}  // namespace orch::kernels::cuda
