// The device as the graph sees it: the part that CUDA and the emulated device of the tests share. For sources
// without kernels.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <initializer_list>

#include "../../graph/device.h"
#include "../kernels.h"
#include "attention_cudnn.h"

namespace orch::kernels::cuda {

/// Increased whenever a kernel of this folder changes its results in any bit; workers compare it, and
/// checkpoints record it, with the versions of the libraries. ("1": before the first run on a GPU.)
constexpr const char* kCudaVersion = "2";

/// The device's table of kernels (families.h).
const Table& table();

constexpr size_t kAlign = 256;
/// The bytes that an allocation takes.
constexpr size_t rounded(size_t bytes) { return (std::max<size_t>(bytes, 1) + kAlign - 1) / kAlign * kAlign; }

/// Checks a launch against the limits of all GPUs, and of this one's shared memory for a block, and counts
/// it. False if the grid is empty. Throws Error(ERR_CUDA).
bool count_launch(graph::Device::Launches& counted, const unsigned (&grid)[3], unsigned threads,
                  size_t shared, size_t most_shared);
/// Whether kernels that were built for these architectures, such as "86 90 80-ptx", run on a GPU of this
/// compute capability (10 major + minor): machine code within its major version, PTX on any newer GPU.
bool runs_on(const std::string& built, int capability);
/// The value of an environment variable, or "". Throws Error(ERR_CUDA) if it is none of these.
std::string choice(const char* variable, std::initializer_list<const char*> values);
std::string gelu_choice();         ///< ORCHESTRATOR_CUDA_GELU: fused, separate or ""
std::string attention_choice();    ///< ORCHESTRATOR_CUDA_ATTENTION: own, portable, cudnn, cudnn-any or ""
std::string float8_sums_choice();  ///< ORCHESTRATOR_CUDA_FP8_SUMS: fast or ""
/// Whether the kernels of warpgroup.h are among them, and this GPU has the instructions: Hopper's alone,
/// which no other architecture runs.
bool built_for_warpgroups(const std::string& built, int capability);
/// Shared memory of a block in bytes: on the smallest GPUs from compute capability 8.0 on, and on Hopper.
constexpr size_t kLeastShared = 99 * 1024, kHopperShared = 227 * 1024;

class TableDevice : public graph::Device {
 public:
  std::string attention_by(const AttentionDims& d, bool backward) override {
    return cuda::attention_by(d, backward);
  }
  const Table& kernels() const override { return table(); }
  Launches take_launches() override { return std::exchange(launches_, {}); }
  size_t held_bytes() const override { return held_; }

 protected:
  Launches launches_{};
  std::atomic<size_t> held_{0};
};

/// Implemented by the library that this file is compiled into. make_device is called once per process; the
/// device lives until the process ends.
graph::Device* make_device(int ordinal);
std::vector<graph::Device::Description> list_devices();

}  // namespace orch::kernels::cuda
