#include <cmath>
#include <cstring>

#include "../core/error.h"
#include "mmdit.h"

namespace orch {

void position_table(const ModelSpec& spec, float* out) {
  const int64_t side = spec.pos_embed_max_size, h = spec.hidden(), quarter = h / 4;
  auto encode = [&](double position, float* to) {
    for (int64_t j = 0; j < quarter; ++j) {
      const double angle =
          position * std::pow(10000.0, -static_cast<double>(j) / static_cast<double>(quarter));
      to[j] = static_cast<float>(std::sin(angle));
      to[quarter + j] = static_cast<float>(std::cos(angle));
    }
  };
  for (int64_t row = 0; row < side; ++row)
    for (int64_t column = 0; column < side; ++column) {
      float* at = out + (row * side + column) * h;
      encode(static_cast<double>(column), at);
      encode(static_cast<double>(row), at + h / 2);
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
