// What the CPU needs to run a slot: an executor with its arena, and the input buffers.
#pragma once
#include "host_engine.h"

namespace orch {

struct HostEngine::Lane {
  /// @param threads number of threads that share the slot
  Lane(const ModelGraph& g, const EngineSpec& spec, float* positions, int threads)
      : executor(g.graph, threads) {
    const auto& m = spec.model;
    const auto& s = spec.shape;
    const size_t type = size_of(spec.compute);
    const size_t latent = sizeof(float) * s.samples * m.latent_channels * s.height * s.width;
    x0 = Buffer(latent);
    z = Buffer(latent);
    target = Buffer(latent);
    timestep = Buffer(sizeof(float) * s.samples);
    grad_scale = Buffer(sizeof(float) * s.samples);
    context = Buffer(type * s.samples * s.context_tokens * m.context_dim);
    pooled = Buffer(type * s.samples * m.pooled_dim);
    mixes.resize(s.samples);
    executor.bind_input(kZ, z.data());
    executor.bind_input(kTimestep, timestep.data());
    executor.bind_input(kContext, context.data());
    executor.bind_input(kPooled, pooled.data());
    executor.bind_input(kPosition, positions);
    executor.bind_input(kTarget, target.data());
    executor.bind_input(kGradScale, grad_scale.data());
  }

  SlotInputs pointers() {
    return {x0.as<float>(),         z.as<float>(),  target.as<float>(), timestep.as<float>(),
            grad_scale.as<float>(), context.data(), pooled.data(),      mixes.data()};
  }
  void mix(int64_t latent_elements) {
    kernels::cpu().raw.mix_noise(z.as<float>(), target.as<float>(), x0.as<float>(), mixes.data(),
                                 static_cast<int64_t>(mixes.size()), latent_elements);
  }

  graph::Executor executor;
  Buffer x0, z, target, timestep, grad_scale, context, pooled;
  std::vector<kernels::NoiseMix> mixes;
};

}  // namespace orch
