// The engine on the CPU: slots run concurrently on threads, in one worker or in a group of workers.
#pragma once
#include <condition_variable>
#include <mutex>
#include <thread>

#include "../graph/executor.h"
#include "engine.h"
#include "gradient_sums.h"

namespace orch {

class HostEngine final : public Engine {
 public:
  explicit HostEngine(const EngineSpec& spec);
  ~HostEngine() override;

  Pool& pool() override { return pool_; }
  using Engine::state;
  float* state(State s, size_t parameter) override { return flat(s) + table_.parameters[parameter].offset; }
  void parameters_changed() override;
  AccumulateResult accumulate(const AccumulateRequest& request, std::function<void(int)> on_bucket) override;
  std::vector<GradientPart> parts() override {
    return sums_ ? sums_->parts_now() : std::vector<GradientPart>{};
  }
  Norm gradient_norm() override;
  void join(std::shared_ptr<Group> group) override;
  void state_loaded() override;
  Norm reduce() override;
  void freeze(const Ranges& frozen) override;
  void update(const UpdateRequest& request) override;
  void snapshot(std::function<void(std::exception_ptr)> done) override;
  std::vector<float> evaluate(const SampleBatch& batch, State weights, uint64_t seed, uint32_t step) override;
  std::vector<float> predict(const RawBatch& batch, State weights) override;
  CaseResult evaluate_case(const RawBatch& batch, const std::vector<float>& target, bool gradients) override;
  void observe(const RawBatch& batch, State weights, const Seen& seen) override;
  std::vector<ProfileRow> profile(int repeats) override;

 private:
  struct Lane;  // executor and inputs for one slot at a time
  struct Lanes {
    std::unique_ptr<ModelGraph> graph;
    std::vector<std::unique_ptr<Lane>> lanes;
  };
  int lanes() const { return std::max(1, pool_.threads() / spec_.threads_per_slot); }
  /// Calls piece(index, lane) for every index in [0, count), at most one per lane at a time.
  void each_slot(int64_t count, const std::function<void(int64_t index, int lane)>& piece);
  Lane& training_lane(int lane);
  Lane& forward_lane(int lane, State weights);
  void prepare_forward(State weights);
  void bind(Lane& lane, State weights, float* gradient);
  void parallel_for(int64_t count, const std::function<void(int64_t)>& piece);

  std::vector<uint64_t> piece_digests(State s) override {
    return Engine::piece_digests(flat(s), table_.length);
  }
  float* flat(State s) const { return state_[static_cast<int>(s)].as<float>(); }
  /// The first part's sum. Throws Error(ERR_INTERNAL) where there is none.
  const float* gradient() const;
  void copy_state();
  void await_snapshot();

  Buffer state_[4];
  Buffer weights16_, ema16_;  // bf16 copies of the matmul weights
  bool ema16_stale_ = true;
  Buffer cropped_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  Lanes forward_;
  std::unique_ptr<GradientSums> sums_;
  std::shared_ptr<Group> group_;       // null: not in a group
  Buffer squares_;                     // the group's sums of squares, by piece of trained_
  std::vector<int64_t> bucket_ready_;  // by bucket: the node after which it is complete

  std::mutex snapshot_mutex_;
  std::condition_variable snapshot_done_;
  bool snapshot_running_ = false;
  std::thread snapshot_thread_;

  Pool pool_;  // last: its threads end before the members they use
};

}  // namespace orch
