// What an engine needs to run a slot: an executor with its arena, and the input buffers.
#pragma once
#include <algorithm>
#include <map>
#include <optional>
#include <tuple>

#include "../graph/device.h"
#include "../graph/executor.h"
#include "engine.h"

namespace orch {

/// A slot's inputs in one allocation: as gathered (x0 and its noise mix, or z in x0's place), or as the graph
/// reads them (z and target). The remaining inputs are the same in both.
struct Engine::Inputs {
  enum class Kind { Gathered, OfGraph };
  /// @param common whether there is memory for the remaining inputs
  Inputs(graph::Device& device, const EngineSpec& spec, Kind kind, bool on_host, bool common = true) {
    const auto& m = spec.model;
    const auto& s = spec.shape;
    const bool gathered = kind == Kind::Gathered;
    size_t bytes = 0;
    const auto take = [&](size_t n) { return std::exchange(bytes, bytes + (n + 255) / 256 * 256); };
    latent_bytes = sizeof(float) * s.samples * m.latent_channels * s.height * s.width;
    const size_t first = take(latent_bytes),
                 second = take(gathered ? sizeof(kernels::NoiseMix) * s.samples : latent_bytes);
    const size_t from = bytes,
                 context = take(size_of(spec.compute) * s.samples * s.context_tokens * m.context_dim),
                 pooled = take(size_of(spec.compute) * s.samples * m.pooled_dim),
                 timestep = take(sizeof(float) * s.samples), grad_scale = take(sizeof(float) * s.samples);
    memory = graph::DeviceMemory(device, common ? bytes : from, on_host);
    char* const p = memory.as<char>();
    const auto floats = [p](size_t offset) { return reinterpret_cast<float*>(p + offset); };
    at = {gathered ? floats(first) : nullptr,
          floats(first),
          gathered ? nullptr : floats(second),
          floats(timestep),
          floats(grad_scale),
          p + context,
          p + pooled,
          gathered ? reinterpret_cast<kernels::NoiseMix*>(p + second) : nullptr};
    common_bytes = bytes - from;
  }
  graph::DeviceMemory memory;
  SlotInputs at;
  size_t latent_bytes, common_bytes;  ///< the remaining inputs begin with the context
};

/// An executor with its arena and inputs. On a device, the next slot's inputs are prefetched: they are
/// gathered into one of two pinned host buffers and uploaded while the device computes the previous slot. On
/// the CPU they are gathered into the graph's inputs.
struct Engine::Lane {
  using Kind = Inputs::Kind;
  /// @param threads number of threads that share a slot, on the CPU
  Lane(graph::Device& d, const ModelGraph& model, const EngineSpec& spec, float* positions, int threads)
      : device(d),
        graph(model.graph),
        arena(d, d.is_cpu() ? 0 : graph.arena_bytes()),
        scratch(d, d.is_cpu() ? 0 : graph.scratch_bytes()),
        statistics(d, sizeof(kernels::AttentionStats) * std::max(1, graph.attentions())),
        inputs(d, spec, Kind::OfGraph, false),
        incoming(d, spec, Kind::Gathered, false, !d.is_cpu()),
        executor(d.is_cpu() ? graph::Executor(graph, threads)
                            : graph::Executor(graph, arena.data(), scratch.data())) {
    if (d.is_cpu()) {
      const SlotInputs latents = std::exchange(incoming.at, inputs.at);
      incoming.at.x0 = latents.x0;
      incoming.at.mixes = latents.mixes;
    } else {
      for (int i = 0; i < 2; ++i) staging.emplace_back(d, spec, Kind::Gathered, true);
    }
    executor.bind_input(kZ, inputs.at.z);
    executor.bind_input(kTimestep, inputs.at.timestep);
    executor.bind_input(kContext, inputs.at.context);
    executor.bind_input(kPooled, inputs.at.pooled);
    executor.bind_input(kPosition, positions);
    executor.bind_input(kTarget, inputs.at.target);
    executor.bind_input(kGradScale, inputs.at.grad_scale);
  }

  /// Gathers and prefetches a slot's inputs, for the next take(). Waits until the device has consumed the
  /// previous contents of the staging buffer.
  template <class Gather>
  void stage(Gather gather) {
    prefetched.reset();
    if (device.is_cpu()) return gather(incoming.at);
    if (staged) release();  // a prefetched slot that was not used
    turn ^= 1;
    device.await_event(taken[turn]);
    gather(staging[turn].at);
    device.upload_async(incoming.memory.data(), staging[turn].memory.data(), incoming.memory.bytes());
    staged = true;
  }
  /// Makes the staged inputs the graph's. `latents` computes z (and the target) from `incoming`.
  template <class Latents>
  void take(Latents latents) {
    device.wait_for_copy_stream();
    device.copy(inputs.at.context, incoming.at.context, inputs.common_bytes);
    latents();
    device.make_copy_stream_wait();
    taken[turn] = device.record_event();
    staged = false;
  }
  void release() {
    device.wait_for_copy_stream();
    taken[turn] = device.record_event();
  }

  /// Runs the graph; from the second run with the same operands on, as a recording. With `after`, which is
  /// called after each node, it is not recorded.
  void run(float* weights, bf16* weights16, float* gradient, bool with_statistics,
           const std::function<void(int64_t)>* after = nullptr) {
    auto* stats = with_statistics ? statistics.as<kernels::AttentionStats>() : nullptr;
    executor.bind_flat(weights, weights16, gradient);
    if (after) return executor.run(stats, after);
    runs[{weights, gradient, with_statistics}](device, [this, stats] { executor.run(stats, nullptr); });
  }

  graph::Device& device;
  const graph::Graph& graph;
  graph::DeviceMemory arena, scratch, statistics;  // of a device; on the CPU, the executor has its own
  Inputs inputs, incoming;
  std::vector<Inputs> staging;
  uint64_t taken[2] = {0, 0};
  int turn = 0;
  bool staged = false;
  /// what the staged inputs are, if they were prefetched for a later slot
  std::optional<SlotSource> prefetched;
  bool random = false;  ///< the inputs already are random numbers
  graph::Executor executor;
  std::map<std::tuple<float*, float*, bool>, graph::Repeated> runs;
};

}  // namespace orch
