#include <array>

#include "../core/elementary.h"
#include "kernels.h"

namespace orch::kernels {

void timestep_waves(float* out, float t) {
  static const std::array<double, kWaves> frequencies = [] {
    std::array<double, kWaves> f;
    for (int i = 0; i < kWaves; ++i) f[i] = elementary::power_of_10000(-static_cast<double>(i) / kWaves);
    return f;
  }();
  for (int i = 0; i < kWaves; ++i)
    elementary::sine_cosine(static_cast<double>(t) * frequencies[i], out[kWaves + i], out[i]);
}

}  // namespace orch::kernels
