// What queue.cc and device.cc know of the device that this library drives.
#pragma once
#include <cuda_runtime.h>

#include <atomic>

#include "device.h"

namespace orch::kernels::cuda {

struct Context {
  bool plan_only = false, recording = false;
  bool workspace_recorded = false;  ///< a recording has the workspace's address
  int ordinal = 0;
  size_t most_shared = kHopperShared;  ///< bytes of a block
  bool warpgroups = false;
  cudaStream_t compute_stream = nullptr, copy_stream = nullptr;
  void* few = nullptr;  ///< page-locked memory of download()
  void* workspace = nullptr;
  size_t workspace_bytes = 0;
  graph::Device::Launches* launches = nullptr;
  std::atomic<size_t>* held = nullptr;
};
extern Context context;

/// Addresses for a device that only plans: aligned, never accessed.
char* planned_address(size_t bytes);

}  // namespace orch::kernels::cuda
