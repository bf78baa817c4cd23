#pragma once
#include <atomic>
#include <memory>

#include "../../../graph/device.h"
#include "transport.h"

namespace orch::emulate {
/// Runs the threads of a block from the last to the first.
extern bool backwards;
/// Whether the kernels that need Hopper's warpgroups run.
extern bool warpgroups;
/// The library that serves attention: none, one that does it right, one with a fault.
enum class Library { None, Right, NotDemanded, Wrong, Unsteady, NoPlan };
extern Library library;
/// As long as it is set, a host that waits for an asynchronous download waits until the compute stream does.
extern std::atomic<bool> hold_downloads;
/// How much memory can still be page-locked, in calls; negative: any. At first what
/// ORCHESTRATOR_EMULATED_PAGE_LOCKS says.
extern std::atomic<int> page_locks;
/// How many of the next downloads fail.
extern std::atomic<int> failing_downloads;
}  // namespace orch::emulate

namespace orch::kernels::cuda {

/// The device that runs the CUDA kernels on the CPU, for tests.
graph::Device& emulated_device();
/// Another one, with memory of its own, which is a rank of an exchange within this process. It must live
/// longer than its memory and transports.
std::unique_ptr<graph::Device> make_emulated_device(AtCall at_call = nullptr);
const Table& table();

}  // namespace orch::kernels::cuda
