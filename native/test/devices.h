// The devices on which tests run: the emulated one, and CUDA devices if there are any.
#pragma once
#include <cstdlib>
#include <string>
#include <vector>

#include "core/error.h"
#include "graph/device.h"
#include "harness.h"
#include "kernels/cuda/emulated/emulated_device.h"
#include "kernels/open_cuda.h"

namespace orch::test {

struct TestedDevice {
  const char* name;
  graph::Device& device;
  bool real;
  bool large;  ///< whether real training shapes are tested, too; not with ORCHESTRATOR_TEST_SMALL=1
};

/// ORCHESTRATOR_TEST_CUDA=1: a missing GPU is a failure, and only the GPU is tested.
inline std::vector<TestedDevice> devices() {
  const char* wanted = std::getenv("ORCHESTRATOR_TEST_CUDA");
  const bool required = wanted != nullptr && std::string(wanted) == "1";
  std::vector<TestedDevice> all;
  all.push_back({"emulated", kernels::cuda::emulated_device(), false, false});
  try {
    all.push_back({"cuda", kernels::open_cuda(0), true, std::getenv("ORCHESTRATOR_TEST_SMALL") == nullptr});
  } catch (const Error& e) {
    CHECK(!required, e.what());
  }
  if (required && all.size() > 1) return {all.back()};
  return all;
}

}  // namespace orch::test
