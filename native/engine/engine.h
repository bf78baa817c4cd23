// One model on one device: its weights, optimizer state and executors. Functions block and belong on the
// pool's driver thread (pool().post), except where said otherwise; the addon makes promises of them.
#pragma once
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "../core/pool.h"
#include "../data/batch.h"
#include "../graph/executor.h"
#include "../model/mmdit.h"
#include "gradient_sums.h"
#include "group.h"
#include "requests.h"

namespace orch {

struct EngineSpec {
  ModelSpec model;
  BatchShape shape;  ///< of one slot
  DType compute;     ///< F32 or BF16
  DType residual;    ///< F32, or as compute
  int threads;
  bool training, ema;
  Recompute recompute = Recompute::Nothing;
  /// Of the `threads`; more than one where there are fewer slots than threads. Changes no bit.
  int threads_per_slot = 1;
};

/// Rows of a batch with the draws that belong to them; `count` entries each, coefficients six times as many
/// (a, b, p, q, weight, timestep; see src/native/contract.ts).
struct SampleBatch {
  std::vector<int64_t> rows;
  std::vector<uint8_t> synthetic, dropped;
  std::vector<float> coefficients;
  std::vector<uint64_t> sample_ids;
  int64_t count() const { return static_cast<int64_t>(rows.size()); }
};

struct SlotBatch {
  int64_t slot;
  SampleBatch samples;
};

struct AccumulateRequest {
  std::vector<SlotBatch> slots;  ///< contiguous, ascending
  int64_t total_slots;
  float grad_scale;
  uint64_t seed;
  uint32_t step;
  bool statistics;
};

struct AccumulateResult {
  std::vector<std::vector<float>> losses;  ///< by slot, by sample: mean squared error, unweighted
  std::vector<AttentionSummary> attention;
  double gather_seconds = 0, compute_seconds = 0;
};

/// Explicit inputs; see RawBatch in src/native/contract.ts.
struct RawBatch {
  std::vector<float> z, timestep, context, pooled;
  int64_t count() const { return static_cast<int64_t>(timestep.size()); }
};

struct CaseResult {
  std::vector<float> velocity;
  double loss;
  std::vector<std::pair<std::string, std::vector<float>>> gradients;
};

/// Times of one kind of operation in a slot's forward and backward pass.
struct ProfileRow {
  std::string name;
  int count;
  double seconds, flops, bytes;
};

/// What a plan needs, known before anything is allocated.
struct PlanFigures {
  int64_t parameters, length;
  double flops_per_slot;
  // By level of recomputation:
  std::vector<size_t> arena_bytes;         ///< of one thread
  std::vector<double> executed_flops;      ///< of one slot, recomputation included
  std::vector<double> memory_bound_bytes;  ///< operands of one slot's operations without matmuls
};
PlanFigures plan_figures(const EngineSpec& spec);

/// A parameter's initial values, by counter from the seed and its name.
void initial_values(const Parameter& p, float* w, uint64_t seed);
/// A row for every kind of operation, without times; `row_of` gets the row of every node.
std::vector<ProfileRow> profile_rows(const graph::Graph& g, std::vector<size_t>& row_of);

enum class State : uint8_t { Master, Ema, M, V };

class Engine {
 public:
  explicit Engine(const EngineSpec& spec);
  ~Engine();

  Pool& pool() { return pool_; }
  const EngineSpec& spec() const { return spec_; }
  const ParameterTable& table() const { return table_; }
  const ModelGraph& training_graph() const { return *graph_; }
  double flops_per_slot() const { return 3 * graph_->forward_flops; }
  size_t arena_bytes() const { return graph_->graph.arena_bytes(); }
  bool has(State s) const { return bool(state_[static_cast<int>(s)]); }
  float* state(State s) const { return state_[static_cast<int>(s)].as<float>(); }
  float* positions() const { return positions_.as<float>(); }
  int64_t position_elements() const;

  void initialize(uint64_t seed);
  /// After master or the positions were written from outside.
  void parameters_changed();
  /// Not on the driver; before the first accumulate or evaluate.
  void attach(std::shared_ptr<const Dataset> dataset, const TextSpec& text);

  /// `on_bucket` is called from compute threads, one call at a time, in bucket order.
  AccumulateResult accumulate(const AccumulateRequest& request, std::function<void(int)> on_bucket);
  const std::vector<GradientSums::Part>& parts() const { return sums_->parts(); }

  struct Norm {
    double norm;
    int64_t first_non_finite;
  };
  /// Of the local sums, which must be one part.
  Norm gradient_norm();
  /// From now on this engine's state is its group's, and reduce() and update() are collective. Collective
  /// itself; before the first accumulate, and before anything is written into the state.
  void join(std::shared_ptr<Group> group);
  /// Collective. After the leader wrote the state from outside: all members see it.
  void state_loaded();
  /// Collective. Sums the gradients of the group's members, and takes the norm of the sum.
  Norm reduce();
  /// Parameters in the element ranges [from, to) stay as they are: updates pass over them, and their
  /// gradients count as zero. Ascending and disjoint.
  void freeze(const Ranges& frozen);
  void update(const UpdateRequest& request);
  /// Starts copying the state beside the driver's work (call from any thread); `done` is called from another
  /// thread. The next update waits for the copy.
  void snapshot(std::function<void()> done);
  float* snapshot_data(State s) const { return snapshot_[static_cast<int>(s)].as<float>(); }

  std::vector<float> evaluate(const SampleBatch& batch, State weights, uint64_t seed, uint32_t step);
  std::vector<float> predict(const RawBatch& batch, State weights);
  CaseResult evaluate_case(const RawBatch& batch, const std::vector<float>& target, bool gradients);

  /// Root mean squares of queries and keys before their normalisation, over samples, tokens and heads.
  struct QueryKeyRms {
    std::string attention;  ///< "joint_blocks.0.x_block.attn"
    double query, key;
  };
  std::vector<QueryKeyRms> query_key_rms(const RawBatch& batch, State weights);

  /// One slot's pass on one thread, by kind of operation, averaged over `repeats`.
  std::vector<ProfileRow> profile(int repeats);

  /// Elements of one sample's latent, context and pooled vector.
  int64_t latent_elements() const;
  int64_t context_elements() const { return spec_.shape.context_tokens * spec_.model.context_dim; }

 private:
  struct Lane;  // executor and inputs of one slot at a time
  struct Lanes {
    std::unique_ptr<ModelGraph> graph;
    std::vector<std::unique_ptr<Lane>> lanes;
  };
  int lanes() const { return std::max(1, pool_.threads() / spec_.threads_per_slot); }
  /// Calls piece(index, lane) for every index < count, as many at a time as there are lanes.
  void each_slot(int64_t count, const std::function<void(int64_t index, int lane)>& piece);
  Lane& training_lane(int lane);
  Lane& forward_lane(int lane, State weights);
  void prepare_forward(State weights);
  void bind(Lane& lane, State weights, float* gradient);
  void fill(Lane& lane, const SampleBatch& batch, int64_t from, float grad_scale, uint64_t seed,
            uint32_t step);
  void fill(Lane& lane, const RawBatch& batch, int64_t from);
  void check(const SampleBatch& batch) const;
  void check(const RawBatch& batch) const;
  void crop();
  void share_out(int64_t count, const std::function<void(int64_t)>& piece);
  Norm norm(const float* gradient, const double* squares) const;

  const EngineSpec spec_;
  const ParameterTable table_;
  std::unique_ptr<ModelGraph> graph_;  // of training, or forward only
  Buffer state_[4], snapshot_[4];
  Buffer weights16_, ema16_;  // bf16 copies of the matmuls' weights
  bool ema16_stale_ = true;
  Buffer positions_, cropped_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  Lanes forward_;
  std::unique_ptr<GradientSums> sums_;
  std::shared_ptr<Group> group_;       // null: alone
  Buffer squares_;                     // of the group: sums of squares by piece of trained_
  Ranges trained_;                     // what is not frozen, in pieces for the threads
  std::vector<int64_t> bucket_ready_;  // by bucket: the node after which it is complete
  std::unique_ptr<BatchAssembler> assembler_;

  std::mutex snapshot_mutex_;
  std::condition_variable snapshot_done_;
  bool snapshot_running_ = false;
  std::thread snapshot_thread_;

  Pool pool_;  // last: its threads end before what they use
};

}  // namespace orch
