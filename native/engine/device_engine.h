// The engine on a device with memory of its own, which holds weights, optimizer state, activations and
// gradients.
#pragma once
#include <map>
#include <mutex>

#include "../graph/device.h"
#include "device_exchange.h"
#include "device_sums.h"
#include "engine.h"

namespace orch {

class DeviceEngine final : public Engine {
 public:
  DeviceEngine(const EngineSpec& spec, graph::Device& device);
  ~DeviceEngine() override;

  Pool& pool() override { return pool_; }
  size_t device_bytes() const override { return device_.held_bytes(); }
  using Engine::state;
  float* state(State s, size_t parameter) override;
  void parameters_changed() override;
  AccumulateResult accumulate(const AccumulateRequest& request, std::function<void(int)> on_bucket) override;
  std::vector<GradientPart> parts() override {
    std::lock_guard lock(parts_mutex_);
    return parts_;
  }
  Norm gradient_norm() override;
  std::string offer_device(int rank, const std::vector<SlotRange>& slots) override;
  void connect_devices(const std::string& leader) override;
  void abandon_devices() override;
  Norm reduce() override;
  void freeze(const Ranges& frozen) override;
  void update(const UpdateRequest& request) override;
  void snapshot(std::function<void(std::exception_ptr)> done) override;
  std::vector<float> evaluate(const SampleBatch& batch, State weights, uint64_t seed, uint32_t step) override;
  std::vector<float> predict(const RawBatch& batch, State weights) override;
  CaseResult evaluate_case(const RawBatch& batch, const std::vector<float>& target, bool gradients) override;
  std::vector<ProfileRow> profile(int repeats) override;

  /// For benches: weights of N(0, 0.02^2), drawn on the device (zeros would be faster than what training
  /// has); and a training slot, queued, on inputs of random numbers.
  void random_weights();
  void run_random_slot(bool statistics);
  graph::Device& device() { return device_; }

 private:
  struct Inputs;
  struct Lane;
  Lane& training_lane();
  Lane& forward_lane();
  /// What a slot's inputs are made of.
  struct SlotSource {
    SampleBatch samples;
    float grad_scale;
    uint64_t seed;
    uint32_t step;
    bool operator==(const SlotSource&) const = default;
  };
  /// Gathers samples [from, from + a slot's) and uploads them beside the device's work.
  void stage(Lane& lane, const SlotSource& of, int64_t from = 0);
  /// Makes z and target of what was staged, and the rest the graph's inputs.
  void take_mixed(Lane& lane);
  /// Makes samples [from, from + a slot's) of a batch the graph's inputs.
  void fill(Lane& lane, const RawBatch& batch, int64_t from);
  /// Queues the sum of squares of the gradient.
  void queue_norm();
  void observe(const RawBatch& batch, State weights, const Seen& seen) override;
  std::vector<uint64_t> piece_digests(State s) override;
  /// The first part's sum, on the device. Throws Error(ERR_INTERNAL) where there is none.
  float* gradient() const;
  /// The device's state changed.
  void outdate_copies();
  /// Brings the bf16 copy of these weights up to date, and returns it; null in fp32.
  bf16* prepare(State weights);
  void run(Lane& lane, State weights, float* gradient, bool statistics);
  void random_inputs(Lane& lane);
  bool connected() const { return exchange_ && exchange_->connected(); }
  float* on_device(State s) const { return state_[static_cast<int>(s)].as<float>(); }
  const kernels::Table& kernels() const { return device_.kernels(); }

  graph::Device& device_;
  std::unique_ptr<ModelGraph> forward_graph_;
  graph::DeviceMemory state_[4], weights16_, ema16_, cropped_;
  Buffer copies_[4];  ///< of the state, in the host's memory
  /// By parameter: whether the copy is what the device holds, or what is to be uploaded.
  std::vector<bool> current_[4];
  bool ema16_stale_ = true;
  std::unique_ptr<Lane> training_lane_, forward_lane_;
  graph::DeviceMemory losses_, statistics_;  ///< of the slots of a step
  graph::DeviceMemory squares_;              ///< the gradient's, a double
  bool norm_queued_ = false;
  /// Of the update: in the host's memory, and on the device.
  graph::DeviceMemory adamw_host_, adamw_;
  uint64_t adamw_uploaded_ = 0;
  std::map<const float*, graph::Repeated> norms_;  ///< by gradient
  std::map<std::pair<const float*, bool>, graph::Repeated>
      updates_;  ///< by gradient, and whether the EMA follows
  std::unique_ptr<DeviceSums> sums_;
  std::vector<Buffer> host_parts_;
  std::mutex parts_mutex_;
  std::vector<GradientPart> parts_;
  std::mutex exchange_mutex_;                 ///< of the pointer
  std::unique_ptr<DeviceExchange> exchange_;  ///< not connected: alone, or through the host's memory
  Pool pool_;                                 // last: its threads end before what they use
};

/// What a device reaches at most, measured: copies, read and written, and a large matmul.
struct Ceilings {
  double copy, matmul;  ///< bytes and FLOP per second
};
Ceilings device_ceilings(graph::Device& device, DType type);

}  // namespace orch
