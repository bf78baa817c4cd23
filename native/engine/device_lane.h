// What a device needs to run a slot: an executor with its arena, and the buffers of its inputs.
#pragma once
#include <algorithm>
#include <tuple>

#include "../graph/executor.h"
#include "device_engine.h"

namespace orch {

/// One set of a slot's inputs.
struct DeviceEngine::Inputs {
  graph::DeviceMemory x0, z, target, timestep, grad_scale, context, pooled;
  Inputs(graph::Device& device, const EngineSpec& spec, bool on_host) {
    const auto& m = spec.model;
    const auto& s = spec.shape;
    const size_t latent = sizeof(float) * s.samples * m.latent_channels * s.height * s.width;
    for (graph::DeviceMemory* memory : {&x0, &z, &target})
      *memory = graph::DeviceMemory(device, latent, on_host);
    for (graph::DeviceMemory* memory : {&timestep, &grad_scale})
      *memory = graph::DeviceMemory(device, sizeof(float) * s.samples, on_host);
    context = graph::DeviceMemory(
        device, size_of(spec.compute) * s.samples * s.context_tokens * m.context_dim, on_host);
    pooled = graph::DeviceMemory(device, size_of(spec.compute) * s.samples * m.pooled_dim, on_host);
  }
  SlotInputs pointers() const {
    return {x0.as<float>(),         z.as<float>(),  target.as<float>(), timestep.as<float>(),
            grad_scale.as<float>(), context.data(), pooled.data()};
  }
};

/// An executor with its arena, its inputs, and two sets of host memory that uploads come from.
struct DeviceEngine::Lane {
  Lane(graph::Device& d, const ModelGraph& model, const EngineSpec& spec, float* positions)
      : device(d),
        graph(model.graph),
        arena(d, graph.arena_bytes()),
        scratch(d, graph.scratch_bytes()),
        statistics(d, sizeof(kernels::AttentionStats) * std::max(1, graph.attentions())),
        inputs(d, spec, false),
        staging{{d, spec, true}, {d, spec, true}},
        executor(graph, arena.data(), scratch.data()) {
    executor.bind_input(kZ, inputs.z.data());
    executor.bind_input(kTimestep, inputs.timestep.data());
    executor.bind_input(kContext, inputs.context.data());
    executor.bind_input(kPooled, inputs.pooled.data());
    executor.bind_input(kPosition, positions);
    executor.bind_input(kTarget, inputs.target.data());
    executor.bind_input(kGradScale, inputs.grad_scale.data());
  }

  /// The set whose uploads are done.
  Inputs& next_staging() {
    turn ^= 1;
    device.await(marks[turn]);
    return staging[turn];
  }
  void staged() { marks[turn] = device.mark(); }
  void upload(const graph::DeviceMemory& to, const graph::DeviceMemory& from, size_t bytes = SIZE_MAX) {
    device.upload(to.data(), from.data(), std::min(bytes, to.bytes()));
  }

  /// Runs the graph; from the second time with the same operands on, as a recording.
  void run(float* weights, bf16* weights16, float* gradient, bool with_statistics) {
    auto* stats = with_statistics ? statistics.as<kernels::AttentionStats>() : nullptr;
    Recorded& r = recorded[{weights, gradient, with_statistics}];
    executor.bind_flat(weights, weights16, gradient);
    if (r.recording) return r.recording->replay();
    const auto work = [this, stats] { executor.run(stats, nullptr); };
    if (!std::exchange(r.ran, true)) return work();
    r.recording = device.record(work);
    r.recording->replay();
  }

  graph::Device& device;
  const graph::Graph& graph;
  graph::DeviceMemory arena, scratch, statistics;
  Inputs inputs, staging[2];
  uint64_t marks[2] = {0, 0};
  int turn = 0;
  bool random = false;  ///< its inputs are random numbers already
  graph::Executor executor;

  struct Recorded {
    bool ran = false;
    std::unique_ptr<graph::Recording> recording;
  };
  std::map<std::tuple<float*, float*, bool>, Recorded> recorded;
};

}  // namespace orch
