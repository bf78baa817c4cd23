// Gaussian noise by counter (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), mixed
// with the data.
#include "families.h"

namespace orch::kernels::ORCH_ISA {
namespace {

constexpr int kGroups = 64;  // groups of four normals, drawn together
constexpr int kBlock = 4 * kGroups;

/// The four words of one group, in w0..w3.
ORCH_INLINE void philox(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0, uint32_t k1,
                        uint32_t& w0, uint32_t& w1, uint32_t& w2, uint32_t& w3) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = 0xD2511F53ull * c0, p1 = 0xCD9E8D57ull * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  w0 = c0;
  w1 = c1;
  w2 = c2;
  w3 = c3;
}

/// Normals [4 * group, 4 * group + kBlock) of a draw.
ORCH_INLINE void normal_block(float* out, const DrawKey& key, int64_t group) {
  // Pair i of the block: word 2i gives the radius, word 2i + 1 the angle.
  alignas(64) uint32_t radius[2 * kGroups], angle[2 * kGroups];
  const uint32_t k0 = static_cast<uint32_t>(key.seed), k1 = static_cast<uint32_t>(key.seed >> 32);
  const uint32_t id = static_cast<uint32_t>(key.sample_id);
  const uint32_t tag = (key.stream << 24) | (static_cast<uint32_t>(key.sample_id >> 32) & 0xffffffu);
  for (int g = 0; g < kGroups; ++g) {
    philox(static_cast<uint32_t>(group + g), id, key.step, tag, k0, k1, radius[2 * g], angle[2 * g],
           radius[2 * g + 1], angle[2 * g + 1]);
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
