// One model on one device with memory of its own: as Engine, with weights, optimizer state, activations and
// gradients on the device. Functions block and belong on the pool's driver thread, except where Engine says
// otherwise.
#pragma once
#include <map>

#include "../graph/device.h"
#include "device_sums.h"
#include "engine.h"

namespace orch {

class DeviceEngine {
 public:
  DeviceEngine(const EngineSpec& spec, graph::Device& device);
  ~DeviceEngine();

  Pool& pool() { return pool_; }
  const EngineSpec& spec() const { return spec_; }
  const ParameterTable& table() const { return table_; }
  const ModelGraph& training_graph() const { return *graph_; }
  double flops_per_slot() const { return 3 * graph_->forward_flops; }
  size_t arena_bytes() const { return graph_->graph.arena_bytes(); }
  /// Of the device, in all.
  size_t device_bytes() const;

  bool has(State s) const { return bool(state_[static_cast<int>(s)]); }
  /// The host's copy: what fetch() brought, or what is to be uploaded by parameters_changed().
  float* state(State s);
  float* positions() const { return positions_.as<float>(); }
  int64_t position_elements() const;
  /// Brings the states to the host's copies.
  void fetch();

  void initialize(uint64_t seed);
  /// After the host's copies were written: uploads those that exist.
  void parameters_changed();
  void attach(std::shared_ptr<const Dataset> dataset, const TextSpec& text);

  /// `on_bucket` is called in bucket order; with slots of other workers missing, once the host's parts hold
  /// the bucket.
  AccumulateResult accumulate(const AccumulateRequest& request, const std::function<void(int)>& on_bucket);
  /// As Engine's parts(); data is the host's, or null where this engine has all slots and nothing need be
  /// exchanged.
  struct Part {
    int64_t lo, hi;
    float* data;
  };
  const std::vector<Part>& parts() const { return parts_; }
  Engine::Norm gradient_norm();
  void freeze(const Ranges& frozen);
  void update(const UpdateRequest& request);

  std::vector<float> evaluate(const SampleBatch& batch, State weights, uint64_t seed, uint32_t step);
  std::vector<float> predict(const RawBatch& batch, State weights);
  CaseResult evaluate_case(const RawBatch& batch, const std::vector<float>& target, bool gradients);

  int64_t latent_elements() const {
    return spec_.model.latent_channels * spec_.shape.height * spec_.shape.width;
  }
  int64_t context_elements() const { return spec_.shape.context_tokens * spec_.model.context_dim; }

  /// For benches: weights of N(0, 0.02^2), drawn on the device (zeros would be faster than what training
  /// has); and a training slot, queued, on inputs of random numbers.
  void random_weights();
  void run_random_slot(bool statistics);
  graph::Device& device() { return device_; }
  /// Times of a slot's operations by kind, from the device's clock, one after the other.
  std::vector<ProfileRow> profile(int repeats);

 private:
  struct Inputs;
  struct Lane;
  Lane& training_lane();
  Lane& forward_lane();
  /// Gathers, uploads and mixes rows [from, from + samples) of a batch.
  void fill(Lane& lane, const SampleBatch& batch, int64_t from, float grad_scale, uint64_t seed,
            uint32_t step);
  void fill(Lane& lane, const RawBatch& batch, int64_t from);
  void run(Lane& lane, State weights, float* gradient, bool statistics);
  void random_inputs(Lane& lane);
  float* on_device(State s) const { return state_[static_cast<int>(s)].as<float>(); }
  const kernels::Table& kernels() const { return device_.kernels(); }

  const EngineSpec spec_;
  graph::Device& device_;
  const ParameterTable table_;
  std::unique_ptr<ModelGraph> graph_, forward_graph_;
  graph::DeviceMemory state_[4], weights16_, ema16_, cropped_;
  Buffer host_state_[4], positions_;
  bool ema16_stale_ = true;
  std::unique_ptr<Lane> training_lane_, forward_lane_;
  graph::DeviceMemory losses_, statistics_;  ///< of the slots of a step
  std::unique_ptr<DeviceSums> sums_;
  std::vector<Buffer> host_parts_;
  std::vector<Part> parts_;
  Ranges trained_;
  std::unique_ptr<BatchAssembler> assembler_;
  Pool pool_;
};

}  // namespace orch
