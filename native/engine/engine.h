// One model where it is computed, on the CPU (HostEngine) or on a device (DeviceEngine): its weights,
// optimizer state and executors. Functions block and belong on the pool's driver thread (pool().post), except
// where said otherwise; the addon makes promises of them.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../core/error.h"
#include "../core/pool.h"
#include "../data/batch.h"
#include "../model/mmdit.h"
#include "group.h"
#include "requests.h"
#include "slot_tree.h"

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
  /// The CUDA device, by its number among those that the process sees; none: the CPU.
  std::optional<int> device = std::nullopt;
};

/// Rows of a batch with the draws that belong to them; `count` entries each, coefficients six times as many
/// (a, b, p, q, weight, timestep; see src/native/contract.ts).
struct SampleBatch {
  std::vector<int64_t> rows;
  std::vector<uint8_t> synthetic, dropped;
  std::vector<float> coefficients;
  std::vector<uint64_t> sample_ids;
  int64_t count() const { return static_cast<int64_t>(rows.size()); }
  bool operator==(const SampleBatch&) const = default;
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
  /// The first slot of the next step, if it is known: its rows may be gathered while this step is computed.
  std::optional<SampleBatch> next = std::nullopt;
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

/// A slot's forward and backward pass by kind of operation, in the order of the graph, without times; known
/// before anything is allocated, and without a device.
std::vector<ProfileRow> plan_operations(const EngineSpec& spec);

/// A parameter's initial values, by counter from the seed and its name.
void initial_values(const Parameter& p, float* w, uint64_t seed);
/// A row for every kind of operation, without times; `row_of` gets the row of every node.
std::vector<ProfileRow> profile_rows(const graph::Graph& g, std::vector<size_t>& row_of);

enum class State : uint8_t { Master, Ema, M, V };

[[noreturn]] inline void no_gradient() {
  throw Error("ERR_INTERNAL", "There is no gradient: a whole accumulate comes first");
}

class Engine {
 public:
  explicit Engine(const EngineSpec& spec, const graph::Backend& backend);
  virtual ~Engine() = default;

  virtual Pool& pool() = 0;
  const EngineSpec& spec() const { return spec_; }
  const ParameterTable& table() const { return table_; }
  const ModelGraph& training_graph() const { return *graph_; }
  double flops_per_slot() const { return 3 * graph_->forward_flops; }
  size_t arena_bytes() const { return graph_->graph.arena_bytes(); }
  /// Elements of one sample's latent and context, and of the table of positions.
  int64_t latent_elements() const;
  int64_t context_elements() const { return spec_.shape.context_tokens * spec_.model.context_dim; }
  int64_t position_elements() const;
  /// Of the device, held by this process; 0 on the CPU. From any thread.
  virtual size_t device_bytes() const { return 0; }

  bool has(State s) const { return s == State::Master || (s == State::Ema ? spec_.ema : spec_.training); }
  /// A parameter's values, by its place in table(), as they are now. On the CPU the state itself; of a device
  /// a copy, which the next update makes old and the next call renews. The memory stays where it is.
  virtual float* state(State s, size_t parameter) = 0;
  /// All of it: the flat array.
  float* state(State s);
  float* positions() const { return positions_.as<float>(); }

  void initialize(uint64_t seed);
  /// Of the state and the positions: equal bits give equal digests on every machine and device.
  std::string digest();
  /// After what state() gave, or the positions, were written from outside.
  virtual void parameters_changed() = 0;
  /// Not on the driver; before the first accumulate or evaluate. Throws Error(ERR_DATA_SHAPE).
  void attach(std::shared_ptr<const Dataset> dataset, const TextSpec& text);

  /// `on_bucket` is called one call at a time, in bucket order, from whichever thread completed the bucket.
  virtual AccumulateResult accumulate(const AccumulateRequest& request,
                                      std::function<void(int)> on_bucket) = 0;
  /// The local sums, in the host's memory; from any thread. Data is null before a part's first bucket is
  /// complete; and on a device that has all slots of the step, or is connected, where nothing needs to come
  /// to the host.
  virtual std::vector<GradientPart> parts() = 0;

  struct Norm {
    double norm;
    int64_t first_non_finite;
    int64_t received = 0;  ///< bytes that came from others' devices
  };
  /// Of the gradient, which must be one part: all slots are local, or the sum was written into the first
  /// part.
  virtual Norm gradient_norm() = 0;
  /// From now on this engine's state is its group's, and reduce() and update() are collective. Collective
  /// itself; before the first accumulate, and before anything is written into the state. Throws
  /// Error(ERR_SHARED_MEMORY) on a device.
  virtual void join(std::shared_ptr<Group> group);
  /// Makes ready to sum gradients with other devices, as `rank` of those with these slots; returns what they
  /// must know (graph::Device::offer). Throws Error(ERR_CUDA) saying why not, and on the CPU.
  virtual std::string offer_device(int rank, const std::vector<SlotRange>& slots);
  /// From now on reduce() is collective. Collective itself; before the first accumulate.
  /// @param leader what rank 0 offered
  virtual void connect_devices(const std::string& leader);
  /// From any thread: ends every wait for other devices, now and later, until the next offer.
  virtual void abandon_devices() {}
  /// Collective. After the leader wrote the state from outside: all members see it.
  virtual void state_loaded() {}
  /// Collective. Sums the gradients of all that joined or connected, and takes the norm of the sum.
  virtual Norm reduce() { return gradient_norm(); }
  /// Parameters in the element ranges [from, to) stay as they are: updates pass over them, and their
  /// gradients count as zero. Ascending and disjoint.
  virtual void freeze(const Ranges& frozen) { trained_ = outside(frozen, table_.length); }
  virtual void update(const UpdateRequest& request) = 0;
  /// Starts copying the state beside the driver's work; `done` is called, from another thread or this one,
  /// with what went wrong or null. The next update waits for the copy.
  virtual void snapshot(std::function<void(std::exception_ptr)> done) = 0;
  /// A parameter's values in the last snapshot, by its place in table().
  float* snapshot_of(State s, size_t parameter) const {
    return snapshot_[static_cast<int>(s)].as<float>() + table_.parameters[parameter].offset;
  }

  /// Mean squared errors by sample, unweighted.
  virtual std::vector<float> evaluate(const SampleBatch& batch, State weights, uint64_t seed,
                                      uint32_t step) = 0;
  virtual std::vector<float> predict(const RawBatch& batch, State weights) = 0;
  virtual CaseResult evaluate_case(const RawBatch& batch, const std::vector<float>& target,
                                   bool gradients) = 0;

  /// Root mean squares of queries and keys before their normalisation, over samples, tokens and heads.
  struct QueryKeyRms {
    std::string attention;  ///< "joint_blocks.0.x_block.attn"
    double query, key;
  };
  std::vector<QueryKeyRms> query_key_rms(const RawBatch& batch, State weights);

  /// One slot's pass by kind of operation, averaged over `repeats`: seconds of one thread, or of the device's
  /// clock with one operation after the other.
  virtual std::vector<ProfileRow> profile(int repeats) = 0;

 protected:
  /// A slot's inputs, in the memory of the host or of a device; context and pooled in the compute type.
  struct SlotInputs {
    float *x0, *z, *target, *timestep, *grad_scale;
    void *context, *pooled;
    kernels::NoiseMix* mixes;  ///< what makes z and target of x0
  };
  /// Gathers samples [from, from + a slot's) of a batch, in the host's memory: all but z and target. A short
  /// batch's last sample is repeated in the free places, whose results are not read.
  void gather(const SlotInputs& to, const SampleBatch& batch, int64_t from, float grad_scale, uint64_t seed,
              uint32_t step) const;
  /// Gathers z, context, pooled and timestep.
  void gather(const SlotInputs& to, const RawBatch& batch, int64_t from) const;
  /// Runs forward passes over the batch in calls of a slot's samples. `seen` is called after each node, with
  /// a function that gives its operands in the host's memory; for one call by one thread.
  using Operand = std::function<const void*(graph::Ref)>;
  using Seen = std::function<void(int64_t call, const graph::Graph& graph, const graph::Node& node,
                                  const Operand& operand)>;
  virtual void observe(const RawBatch& batch, State weights, const Seen& seen) = 0;

  /// kernels::kDigestLanes numbers of every piece of a flat array of the state.
  virtual std::vector<uint64_t> piece_digests(State s) = 0;
  std::vector<uint64_t> piece_digests(const float* x, int64_t n);

  /// Throw Error(ERR_TENSOR_SHAPE) where arrays do not fit the model or each other.
  void check(const AccumulateRequest& request) const;
  /// Throws Error(ERR_INTERNAL) in an engine that was made for inference.
  void check_training() const;
  void check(const SampleBatch& batch) const;
  void check(const RawBatch& batch) const;
  void check_case(const RawBatch& batch, const std::vector<float>& target) const;
  /// The part of the table of positions that the slot's shape takes, to cropped_elements().
  void crop(float* to) const;
  int64_t cropped_elements() const;
  Norm norm(const kernels::Table& kernels, const float* gradient, double sum_of_squares) const;

  const EngineSpec spec_;
  const ParameterTable table_;
  std::unique_ptr<ModelGraph> graph_;  // of training, or forward only
  Buffer positions_, snapshot_[4];
  Ranges trained_;  // what is not frozen
  std::unique_ptr<BatchAssembler> assembler_;
};

/// On the CPU, or on the device that the spec names. Throws Error(ERR_CUDA) where there is none.
std::unique_ptr<Engine> make_engine(const EngineSpec& spec);

}  // namespace orch
