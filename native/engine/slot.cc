// A micro-batch on a device: its lanes and its inputs.
#include <algorithm>
#include <atomic>
#include <cstring>

#include "ceilings.h"
#include "lane.h"

namespace orch {

size_t Engine::lanes() const {
  return device_.is_cpu() ? std::max(1, pool_.threads() / spec_.threads_per_slot) : 1;
}

Engine::Lane& Engine::lane(Lanes& lanes, const ModelGraph& model, int at) {
  if (!lanes[at]) lanes[at] = std::make_unique<Lane>(device_, model, spec_, cropped_.as<float>());
  return *lanes[at];
}

void Engine::each_slot(int64_t count, Lanes& lanes, const ModelGraph& model,
                       const std::function<void(int64_t, Lane&)>& piece) {
  // With one thread per lane, a thread always uses the same lane, whose memory is in its cache.
  if (device_.is_cpu() && spec_.threads_per_slot == 1)
    return pool_.parallel(count, [&](int64_t i, int thread) { piece(i, lane(lanes, model, thread)); });
  std::atomic<int64_t> next{0};
  const auto run = [&](int64_t at, int) {
    for (int64_t i = next++; i < count; i = next++) piece(i, lane(lanes, model, static_cast<int>(at)));
  };
  if (lanes.size() == 1) return run(0, 0);  // a GPU is driven by one thread
  pool_.parallel(std::min(static_cast<int64_t>(lanes.size()), count), run);
}

void Engine::gather(const Inputs& to, const Source& of, int64_t from) const {
  const SampleBatch& batch = of.samples;
  const auto size = static_cast<int64_t>(size_of(spec_.compute));
  for (int64_t i = 0; i < spec_.shape.samples; ++i) {
    const int64_t s = std::min(from + i, batch.count() - 1);
    const float* c = &batch.coefficients[6 * s];
    to.mixes[i] = {c[0], c[1], c[2], c[3], {of.seed, 0, of.step, batch.sample_ids[s]}};
    to.grad_scale[i] = c[4] * of.grad_scale;
    to.timestep[i] = c[5];
    assembler_->assemble(batch.rows[s], batch.synthetic[s], batch.dropped[s], to.mixes[i].key,
                         to.z + i * latent_elements(), to.context + i * context_elements() * size,
                         to.pooled + i * spec_.model.pooled_dim * size);
  }
}

void Engine::gather(const Inputs& to, const RawBatch& batch, int64_t from) const {
  const int64_t n = std::min(spec_.shape.samples, batch.count() - from);
  const auto put = [&](void* at, const std::vector<float>& values, int64_t width, DType type) {
    if (type == DType::BF16)
      kernels::cpu().b16.from_f32(static_cast<bf16*>(at), &values[from * width], n * width);
    else
      std::memcpy(at, &values[from * width], sizeof(float) * n * width);
  };
  put(to.z, batch.z, latent_elements(), DType::F32);
  put(to.timestep, batch.timestep, 1, DType::F32);
  put(to.context, batch.context, context_elements(), spec_.compute);
  put(to.pooled, batch.pooled, spec_.model.pooled_dim, spec_.compute);
}

void Engine::stage(Lane& lane, const Source& of, int64_t from) const {
  lane.stage([&](const Inputs& to) { gather(to, of, from); });
}

void Engine::take_mixed(Lane& lane) const {
  lane.take();
  const Inputs& in = lane.inputs;
  kernels().raw.mix_noise(in.z, in.target, in.z, in.mixes, spec_.shape.samples, latent_elements());
}

void Engine::fill(Lane& lane, const RawBatch& batch, int64_t from) const {
  lane.stage([&](const Inputs& to) { gather(to, batch, from); });
  lane.take();
}

void Engine::fill_random(Lane& lane) const {
  if (std::exchange(lane.random, true)) return;
  const Inputs& in = lane.inputs;
  const int64_t samples = spec_.shape.samples;
  draw_normal(device_, in.z, DType::F32, samples * latent_elements(), 1);
  draw_normal(device_, in.target, DType::F32, samples * latent_elements(), 2);
  draw_normal(device_, in.context, spec_.compute, samples * context_elements(), 3);
  draw_normal(device_, in.pooled, spec_.compute, samples * spec_.model.pooled_dim, 4);
  const size_t bytes = sizeof(float) * samples;
  std::vector<float> timestep(samples), scale(samples, 1.0f / static_cast<float>(samples));
  for (int64_t i = 0; i < samples; ++i)
    timestep[i] = 1000.0f * static_cast<float>(i + 1) / static_cast<float>(samples);
  device_.upload(in.timestep, timestep.data(), bytes);
  device_.upload(in.grad_scale, scale.data(), bytes);
  device_.synchronize();
}

}  // namespace orch
