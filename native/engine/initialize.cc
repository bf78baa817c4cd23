// Initial weights, counter-based: a parameter's values depend on the seed and on its name, not on the order
// of initialization.
#include <cmath>

#include "../core/elementary.h"
#include "../core/philox.h"
#include "engine.h"

namespace orch {
namespace {

// FNV-1a: unlike indices, names stay the same when the list changes
uint64_t hash_name(const std::string& name) {
  uint64_t h = 0xcbf29ce484222325ull;
  for (unsigned char c : name) h = (h ^ c) * 0x100000001b3ull;
  return h;
}

double uniform(uint32_t word) { return (word + 0.5) * 0x1p-32; }

}  // namespace

void initial_values(const Parameter& p, float* w, uint64_t seed) {
  const int64_t out = p.shape[0], in = p.length / out;
  const uint64_t id = hash_name(p.name);
  const double bound = std::sqrt(6.0 / static_cast<double>(in + out));  // Xavier uniform
  for (int64_t at = 0; at < p.length; at += 4) {
    if (p.init == Parameter::Init::Zero || p.init == Parameter::Init::One) {
      for (int64_t j = at; j < std::min(at + 4, p.length); ++j)
        w[j] = p.init == Parameter::Init::One ? 1.0f : 0.0f;
      continue;
    }
    uint32_t r[4] = {static_cast<uint32_t>(at / 4), static_cast<uint32_t>(id),
                     static_cast<uint32_t>(id >> 32), kInitStream << 24};
    philox(seed, r);
    double v[4];
    if (p.init == Parameter::Init::Xavier) {
      for (int j = 0; j < 4; ++j) v[j] = bound * (2 * uniform(r[j]) - 1);
    } else {  // N(0, 0.02), as in DiT
      for (int j = 0; j < 4; j += 2) {
        elementary::normal_pair(uniform(r[j]), uniform(r[j + 1]), v[j], v[j + 1]);
        v[j] *= 0.02;
        v[j + 1] *= 0.02;
      }
    }
    for (int64_t j = at; j < std::min(at + 4, p.length); ++j) w[j] = static_cast<float>(v[j - at]);
  }
}

}  // namespace orch
