// The device as the graph sees it: the part that CUDA and the emulated device of the tests share. For sources
// without kernels.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>

#include "../../graph/device.h"
#include "../kernels.h"

namespace orch::kernels::cuda {

/// The device's table of kernels (families.h).
const Table& table();

constexpr size_t kAlign = 256;
/// The bytes that an allocation takes.
constexpr size_t rounded(size_t bytes) { return (std::max<size_t>(bytes, 1) + kAlign - 1) / kAlign * kAlign; }

/// Checks a launch against the limits of sm_90 and counts it. False if the grid is empty. Throws
/// Error(ERR_CUDA).
bool count_launch(graph::Device::Launches& counted, const unsigned (&grid)[3], unsigned threads,
                  size_t shared);

class TableDevice : public graph::Device {
 public:
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
