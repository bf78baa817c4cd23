// Gaussian noise by counter (Philox and Box-Muller), mixed with the data.
#include "families.h"

namespace orch::kernels::ORCH_ISA {
namespace {

constexpr int kGroups = 64;  // groups of four normals, drawn together
constexpr int kBlock = 4 * kGroups;

/// Normals [4 * group, 4 * group + kBlock) of a draw.
ORCH_INLINE void normal_block(float* out, const DrawKey& key, int64_t group) {
  // Pair i of the block: word 2i gives the radius, word 2i + 1 the angle.
  alignas(64) uint32_t radius[2 * kGroups], angle[2 * kGroups];
  for (int g = 0; g < kGroups; ++g) {
    uint32_t w[4];
    draw_words(w, key, group + g);
    radius[2 * g] = w[0];
    angle[2 * g] = w[1];
    radius[2 * g + 1] = w[2];
    angle[2 * g + 1] = w[3];
  }
  const vf half = splat(0.5f), unit = splat(0x1p-32f);
  for (int i = 0; i < 2 * kGroups; i += kLanes) {
    vu r, a;
    std::memcpy(&r, radius + i, sizeof r);
    std::memcpy(&a, angle + i, sizeof a);
    const vf u1 = (__builtin_convertvector(r, vf) + half) * unit,
             u2 = (__builtin_convertvector(a, vf) + half) * unit;
    const vf length = sqrt_of(max_of(log_of(u1) * splat(-2.0f), vf{}));
    vf sine, cosine;
    sincos_turns(u2, sine, cosine);
    const vf x = length * cosine, y = length * sine;
    for (int j = 0; j < kLanes; ++j) {
      out[2 * (i + j)] = x[j];
      out[2 * (i + j) + 1] = y[j];
    }
  }
}

void normal(float* out, const DrawKey& key, int64_t n) {
  alignas(64) float block[kBlock];
  int64_t i = 0;
  for (; i + kBlock <= n; i += kBlock) normal_block(out + i, key, i / 4);
  if (i < n) {
    normal_block(block, key, i / 4);
    std::memcpy(out + i, block, static_cast<size_t>(n - i) * 4);
  }
}

void mix_sample(float* z, float* target, const float* x0, const NoiseMix& mix, int64_t n) {
  alignas(64) float noise[kBlock];
  const vf va = splat(mix.a), vb = splat(mix.b), vp = splat(mix.p), vq = splat(mix.q);
  for (int64_t start = 0; start < n; start += kBlock) {
    normal_block(noise, mix.key, start / 4);
    each_vector(min_of(kBlock, n - start), [&](auto at) {
      const vf x = at(x0 + start), e = at(noise);
      at.put(z + start, va * x + vb * e);
      at.put(target + start, vp * x + vq * e);
    });
  }
}
void mix_noise(float* z, float* target, const float* x0, const NoiseMix* mixes, int64_t samples, int64_t n) {
  for (int64_t b = 0; b < samples; ++b) mix_sample(z + b * n, target + b * n, x0 + b * n, mixes[b], n);
}

}  // namespace

void fill_noise(Table& t) {
  t.raw.normal = normal;
  t.raw.mix_noise = mix_noise;
}

}  // namespace orch::kernels::ORCH_ISA
