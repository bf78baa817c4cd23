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

/// Memory of a device with given contents.
struct Memory {
  explicit Memory(graph::Device& d) : device(d) {}
  template <class T>
  T* put(const std::vector<T>& values) {
    buffers.push_back(device.allocate(values.size() * sizeof(T)));
    device.upload(buffers.back().data(), values.data(), values.size() * sizeof(T));
    device.synchronize();
    return buffers.back().as<T>();
  }
  template <class T>
  std::vector<T> get(const void* from, int64_t n) {
    std::vector<T> values(static_cast<size_t>(n));
    device.download(values.data(), from, values.size() * sizeof(T));
    return values;
  }
  graph::Device& device;
  std::vector<Buffer> buffers;
};

inline std::vector<bf16> rounded(const std::vector<float>& x) {
  std::vector<bf16> y;
  for (float v : x) y.push_back(to_bf16(v));
  return y;
}
inline std::vector<float> widened(const std::vector<bf16>& x) {
  std::vector<float> y;
  for (bf16 v : x) y.push_back(to_float(v));
  return y;
}

}  // namespace orch::test
