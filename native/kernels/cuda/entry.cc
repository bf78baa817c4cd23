// The functions that kernels/open_cuda.cc finds in the library. On failure they return false or null, with a
// message.
#include <cstring>
#include <mutex>

#include "../../core/error.h"
#include "device.h"

namespace {

template <class F>
auto guarded(char* message, size_t size, F f) -> decltype(f()) {
  try {
    return f();
  } catch (const std::exception& e) {
    std::strncpy(message, e.what(), size - 1);
    message[size - 1] = '\0';
    return {};
  }
}

}  // namespace

#define ORCH_ENTRY extern "C" __attribute__((visibility("default")))

ORCH_ENTRY orch::graph::Device* orchestrator_cuda_open(int ordinal, char* message, size_t size) {
  static std::mutex opening;
  static orch::graph::Device* device = nullptr;
  static int opened = 0;
  const std::lock_guard lock(opening);
  return guarded(message, size, [&] {
    if (device && ordinal != opened)
      throw orch::Error("ERR_CUDA", "This process already drives device " + std::to_string(opened));
    if (!device) device = orch::kernels::cuda::make_device(opened = ordinal);
    return device;
  });
}

ORCH_ENTRY bool orchestrator_cuda_list(std::vector<orch::graph::Device::Description>* devices, char* message,
                                       size_t size) {
  return guarded(message, size, [&] {
    *devices = orch::kernels::cuda::list_devices();
    return true;
  });
}
