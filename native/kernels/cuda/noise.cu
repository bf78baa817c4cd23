// Gaussian noise by counter (Philox and Box-Muller, as on the CPU), mixed with the data: the bits of
// the CPU's generic kernels. Four normals per thread.
#include "families.h"

namespace orch::kernels::cuda {
namespace {

constexpr int kThreads = 256;

GPU_INLINE void normal_pair(Single& x, Single& y, uint32_t radius, uint32_t angle) {
  const Single u1 = (Single(static_cast<float>(radius)) + 0.5f) * 0x1p-32f,
               u2 = (Single(static_cast<float>(angle)) + 0.5f) * 0x1p-32f;
  const Single square = Single(log_of(u1.value)) * -2.0f, length = sqrtf(square > 0.0f ? square.value : 0.0f);
  Single sine, cosine;
  sincos_turns(u2, sine, cosine);
  x = length * cosine;
  y = length * sine;
}

GPU_INLINE void normals(Single (&out)[4], const DrawKey& key, int64_t group) {
  uint32_t w[4];
  draw_words(w, key, group);
  normal_pair(out[0], out[1], w[0], w[1]);
  normal_pair(out[2], out[3], w[2], w[3]);
}

/// blockIdx.y is the sample.
__global__ void __launch_bounds__(kThreads)
    mix(float* z, float* target, const float* x0, const NoiseMix* mixes, int64_t n) {
  const int64_t group = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, base = blockIdx.y * n;
  if (4 * group >= n) return;
  const NoiseMix c = mixes[blockIdx.y];
  Single noise[4];
  normals(noise, c.key, group);
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const int64_t i = 4 * group + j;
    if (i >= n) continue;
    const Single x = x0[base + i];
    z[base + i] = (x * c.a + noise[j] * c.b).value;
    target[base + i] = (x * c.p + noise[j] * c.q).value;
  }
}
void mix_noise(float* z, float* target, const float* x0, const NoiseMix* mixes, int64_t samples, int64_t n) {
  launch(mix, dim3(blocks(n, 4 * kThreads), static_cast<unsigned>(samples)), kThreads, 0, z, target, x0,
         mixes, n);
}

__global__ void __launch_bounds__(kThreads) draw(float* out, DrawKey key, int64_t n) {
  const int64_t group = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (4 * group >= n) return;
  Single noise[4];
  normals(noise, key, group);
#pragma unroll
  for (int j = 0; j < 4; ++j)
    if (4 * group + j < n) out[4 * group + j] = noise[j].value;
}
void normal(float* out, const DrawKey& key, int64_t n) {
  launch(draw, blocks(n, 4 * kThreads), kThreads, 0, out, key, n);
}

}  // namespace

std::shared_ptr<void> random_numbers(int64_t n, DType t, uint64_t id, float scale) {
  auto numbers = device_memory(sizeof(float) * n);
  auto* const values = static_cast<float*>(numbers.get());
  table().raw.normal(values, {1, 0, 0, id}, n);
  if (scale != 1) table().raw.scale_into(values, scale, n);
  if (t == DType::F32) return numbers;
  auto half = device_memory(sizeof(bf16) * n);
  table().b16.from_f32(static_cast<bf16*>(half.get()), values, n);
  synchronize();
  return half;
}

void fill_noise(Table& t) {
  t.raw.normal = normal;
  t.raw.mix_noise = mix_noise;
}

}  // namespace orch::kernels::cuda
