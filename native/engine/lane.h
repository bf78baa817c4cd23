// What an engine needs to run a micro-batch: an executor with its arena, and the input buffers.
#pragma once
#include <algorithm>
#include <map>
#include <optional>
#include <tuple>

#include "../graph/device.h"
#include "../graph/executor.h"
#include "engine.h"

namespace orch {

/// A micro-batch's inputs in one allocation. What is gathered from a batch comes first, so that one copy
/// brings it to a device; the target, which only the graph's inputs have, is last.
struct Engine::Inputs {
  /// @param staging in pinned host memory, without the target
  Inputs(graph::Device& device, const EngineSpec& spec, bool staging) {
    const auto& m = spec.model;
    const auto& s = spec.shape;
    size_t bytes = 0;
    const auto take = [&](size_t n) { return std::exchange(bytes, bytes + (n + 255) / 256 * 256); };
    const size_t latent_bytes = sizeof(float) * s.samples * m.latent_channels * s.height * s.width,
                 latents = take(latent_bytes), draws = take(sizeof(kernels::NoiseMix) * s.samples),
                 timesteps = take(sizeof(float) * s.samples), scales = take(sizeof(float) * s.samples),
                 text = take(size_of(spec.compute) * s.samples * s.context_tokens * m.context_dim),
                 pooled_text = take(size_of(spec.compute) * s.samples * m.pooled_dim);
    gathered_bytes = bytes;
    const size_t targets = take(staging ? 0 : latent_bytes);
    memory = staging ? device.allocate_host(bytes) : device.allocate(bytes);
    char* const at = memory.as<char>();
    z = reinterpret_cast<float*>(at + latents);
    target = reinterpret_cast<float*>(at + targets);
    timestep = reinterpret_cast<float*>(at + timesteps);
    grad_scale = reinterpret_cast<float*>(at + scales);
    mixes = reinterpret_cast<kernels::NoiseMix*>(at + draws);
    context = at + text;
    pooled = at + pooled_text;
  }
  Buffer memory;
  size_t gathered_bytes;
  float *z, *target;  ///< z: x0 until it is mixed with noise
  float *timestep, *grad_scale;
  kernels::NoiseMix* mixes;  ///< coefficients and draws that make z and target from x0
  char *context, *pooled;    ///< in the compute type
};

/// An executor with its arena and inputs. On a device, the inputs of the next micro-batch are prefetched:
/// they are gathered into one of two pinned host buffers and uploaded while the device computes the previous
/// one. On the CPU they are gathered into the graph's inputs.
struct Engine::Lane {
  Lane(graph::Device& d, const ModelGraph& model, const EngineSpec& spec, float* positions)
      : device(d),
        graph(model.graph),
        statistics(d.allocate(sizeof(kernels::AttentionStats) * std::max(1, graph.attentions()))),
        inputs(d, spec, false),
        executor(graph, d.is_cpu() ? spec.threads_per_slot : 1, d) {
    if (!d.is_cpu()) {
      incoming = d.allocate(inputs.gathered_bytes);
      for (int i = 0; i < 2; ++i) staging.emplace_back(d, spec, true);
    }
    executor.bind_input(kZ, inputs.z);
    executor.bind_input(kTimestep, inputs.timestep);
    executor.bind_input(kContext, inputs.context);
    executor.bind_input(kPooled, inputs.pooled);
    executor.bind_input(kPosition, positions);
    executor.bind_input(kTarget, inputs.target);
    executor.bind_input(kGradScale, inputs.grad_scale);
  }

  /// Gathers and prefetches a micro-batch's inputs, for the next take(). Waits until the device has consumed
  /// the previous contents of the staging buffer.
  template <class Gather>
  void stage(Gather gather) {
    prefetched.reset();
    if (device.is_cpu()) return gather(inputs);
    if (staged) release();  // what was prefetched was not used
    turn ^= 1;
    device.await_event(taken[turn]);
    gather(staging[turn]);
    device.upload_async(incoming.data(), staging[turn].memory.data(), inputs.gathered_bytes);
    staged = true;
  }
  /// Makes the staged inputs the graph's.
  void take() {
    if (device.is_cpu()) return;
    device.wait_for_copy_stream();
    device.copy(inputs.memory.data(), incoming.data(), inputs.gathered_bytes);
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
  /// @param adds whether the gradient is added to what is there
  /// @param ends the nodes at which it is divided into parts, each a recording of its own; `after` is called
  /// after the last node of each (graph::Repeated)
  void run(float* weights, bf16* weights16, float* gradient, bool with_statistics,
           const std::function<void(int64_t)>* after = nullptr, bool adds = false,
           const std::vector<int64_t>& ends = {}) {
    auto* stats = with_statistics ? statistics.as<kernels::AttentionStats>() : nullptr;
    executor.bind_flat(weights, weights16, gradient, adds);
    graph::Repeated& repeated = runs[{weights, gradient, with_statistics, adds, ends.size()}];
    if (!ends.empty())
      return repeated(
          device, ends.size(),
          [this, ends, stats](size_t part) {
            executor.run_nodes(part ? ends[part - 1] : 0, ends[part], stats);
          },
          [&](size_t part) { (*after)(ends[part] - 1); });
    if (after) return executor.run(stats, after);
    repeated(device, [this, stats] { executor.run(stats); });
  }

  graph::Device& device;
  const graph::Graph& graph;
  Buffer statistics;
  Inputs inputs;
  Buffer incoming;  // on a device: the gathered inputs of the next micro-batch
  std::vector<Inputs> staging;
  uint64_t taken[2] = {0, 0};
  int turn = 0;
  bool staged = false;
  /// what the staged inputs are, and their first sample, if they were prefetched for later
  std::optional<std::pair<Source, int64_t>> prefetched;
  bool random = false;  ///< the inputs already are random numbers
  graph::Executor executor;
  std::map<std::tuple<float*, float*, bool, bool, size_t>, graph::Repeated> runs;
};

}  // namespace orch
