// The engine on a device with its own memory, which holds weights, optimizer state, activations and
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
  void observe(const RawBatch& batch, State weights, const Seen& seen) override;
  std::vector<ProfileRow> profile(int repeats) override;

  /// For benches. random_weights() draws weights from N(0, 0.02^2) on the device, because zeros would be
  /// faster than real weights. run_random_slot() enqueues a training slot with random inputs.
  void random_weights();
  void run_random_slot(bool statistics);
  graph::Device& device() { return device_; }

 private:
  struct Inputs;
  struct Lane;
  Lane& training_lane();
  Lane& forward_lane();
  /// The source of a slot's inputs.
  struct SlotSource {
    SampleBatch samples;
    float grad_scale;
    uint64_t seed;
    uint32_t step;
    bool operator==(const SlotSource&) const = default;
  };
  /// Gathers samples [from, from + samples of a slot) and prefetches them to the device while it computes.
  void stage(Lane& lane, const SlotSource& of, int64_t from = 0);
  /// Mixes the staged latents with noise into z and target, and makes the other staged inputs the graph's.
  void take_mixed(Lane& lane);
  /// Makes samples [from, from + samples of a slot) of a batch the graph's inputs.
  void fill(Lane& lane, const RawBatch& batch, int64_t from);
  /// Enqueues the sum of squares of the gradient.
  void enqueue_norm();
  std::vector<uint64_t> piece_digests(State s) override;
  /// The sum of the first part, on the device. Throws Error(ERR_INTERNAL) if there is none.
  float* gradient() const;
  /// Marks the host copies as stale: the device's state has changed.
  void mark_copies_stale();
  /// Updates the bf16 copy of these weights if it is stale, and returns it; null in fp32.
  bf16* prepare(State weights);
  void run(Lane& lane, State weights, float* gradient, bool statistics);
  void random_inputs(Lane& lane);
  bool connected() const { return exchange_ && exchange_->connected(); }
  float* on_device(State s) const { return state_[static_cast<int>(s)].as<float>(); }
  const kernels::Table& kernels() const { return device_.kernels(); }

  graph::Device& device_;
  std::unique_ptr<ModelGraph> forward_graph_;
  graph::DeviceMemory state_[4], weights16_, ema16_, cropped_;
  Buffer copies_[4];  ///< host copies of the state
  /// By parameter: whether the host copy has the device's values, or values still to be uploaded.
  std::vector<bool> current_[4];
  bool ema16_stale_ = true;
  std::unique_ptr<Lane> training_lane_, forward_lane_;
  graph::DeviceMemory losses_, statistics_;  ///< of all slots of a step
  graph::DeviceMemory squares_;              ///< the gradient's sum of squares, a double
  bool norm_enqueued_ = false;
  /// The AdamW factors, in host memory and on the device.
  graph::DeviceMemory adamw_host_, adamw_;
  uint64_t adamw_uploaded_ = 0;
  std::map<const float*, graph::Repeated> norms_;  ///< recordings, by gradient
  std::map<std::pair<const float*, bool>, graph::Repeated>
      updates_;  ///< recordings, by gradient and by whether the EMA is updated
  std::unique_ptr<DeviceSums> sums_;
  std::vector<Buffer> host_parts_;
  std::mutex parts_mutex_;
  std::vector<GradientPart> parts_;
  std::mutex exchange_mutex_;  ///< guards the pointer
  /// if not connected, the step is alone or exchanges through host memory
  std::unique_ptr<DeviceExchange> exchange_;
  Pool pool_;  // last: its threads end before the members they use
};

}  // namespace orch
