#include <cstring>
#include <numeric>
#include <vector>

#include "../core/elementary.h"
#include "../core/error.h"
#include "model.h"

namespace orch {

void encode_positions(const double* coordinates, int64_t count, int64_t quarter, float* out) {
  for (int64_t j = 0; j < quarter; ++j) {
    const double frequency =
        elementary::power_of_10000(-static_cast<double>(j) / static_cast<double>(quarter));
    for (int64_t i = 0; i < count; ++i) {
      float* to = out + i * 2 * quarter + j;
      elementary::sine_cosine(coordinates[i] * frequency, to[0], to[quarter]);
    }
  }
}

void position_table(const ModelSpec& spec, float* out) {
  const int64_t side = spec.pos_embed_max_size, half = spec.hidden() / 2;
  std::vector<double> coordinates(static_cast<size_t>(side));
  std::iota(coordinates.begin(), coordinates.end(), 0.0);
  std::vector<float> codes(static_cast<size_t>(side * half));
  encode_positions(coordinates.data(), side, half / 2, codes.data());
  for (int64_t row = 0; row < side; ++row)
    for (int64_t column = 0; column < side; ++column, out += 2 * half) {
      std::memcpy(out, &codes[column * half], sizeof(float) * half);
      std::memcpy(out + half, &codes[row * half], sizeof(float) * half);
    }
}

void crop_positions(const ModelSpec& spec, const float* table, int64_t height, int64_t width, float* out) {
  const int64_t side = spec.pos_embed_max_size, h = spec.hidden();
  if (height > side || width > side)
    throw Error("ERR_TENSOR_SHAPE", "A latent of " + std::to_string(height) + "x" + std::to_string(width) +
                                        " patches is larger than pos_embed_max_size " + std::to_string(side));
  const int64_t top = (side - height) / 2, left = (side - width) / 2;
  for (int64_t row = 0; row < height; ++row)
    std::memcpy(out + row * width * h, table + ((top + row) * side + left) * h, sizeof(float) * width * h);
}

}  // namespace orch
