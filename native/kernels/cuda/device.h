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

/// The largest values that launches asked for.
struct Largest {
  int64_t launches, blocks;
  size_t shared, workspace;
  int64_t replays, allocations;
};
/// Checks a launch against the limits of sm_90 and counts it. False if the grid is empty. Throws
/// Error(ERR_CUDA).
bool count_launch(Largest& largest, const unsigned (&grid)[3], unsigned threads, size_t shared);

class TableDevice : public graph::Device {
 public:
  const Table& kernels() const override { return table(); }
  Launches take_launches() override {
    const Largest l = std::exchange(largest_, {});
    return {l.launches, l.blocks, l.shared, l.workspace, l.replays, l.allocations};
  }
  size_t held_bytes() const override { return held_; }

 protected:
  Largest largest_{};
  std::atomic<size_t> held_{0};
};

/// Implemented by the library that this file is compiled into. make_device is called once per process; the
/// device lives until the process ends.
graph::Device* make_device(int ordinal);
std::vector<graph::Device::Description> list_devices();

}  // namespace orch::kernels::cuda
