// The device as the graph sees it: what is the same on CUDA and on the emulated device of the tests. For
// sources that hold no kernels.
#pragma once
#include <cstdint>

#include "../../graph/device.h"
#include "../kernels.h"

namespace orch::kernels::cuda {

/// The device's kernels; families.h.
const Table& table();

/// Most that launches asked for.
struct Largest {
  int64_t launches, blocks;
  size_t shared, workspace;
};
/// Checks a launch against the limits of sm_90 and counts it; throws Error(ERR_CUDA). False: an empty grid.
bool count_launch(Largest& largest, const unsigned (&grid)[3], unsigned threads, size_t shared);

class TableDevice : public graph::Device {
 public:
  const Table& kernels() const override { return table(); }
  Launches take_launches() override {
    const Largest l = std::exchange(largest_, {});
    return {l.launches, l.blocks, l.shared, l.workspace};
  }

 protected:
  Largest largest_{};
};

}  // namespace orch::kernels::cuda
