// What an engine is asked for, and what it answers.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "../model/model.h"
#include "../optim/update.h"

namespace orch {

using optim::UpdateRequest;

using Ranges = std::vector<std::pair<int64_t, int64_t>>;
/// Elements of [0, length) outside the frozen ranges. These are whole parameters, ascending and disjoint;
/// each begins at a parameter. Throws Error(ERR_NATIVE_ARGUMENT).
Ranges outside(const Ranges& frozen, int64_t length);

struct EngineSpec {
  ModelSpec model;
  BatchShape shape;  ///< shape of one micro-batch
  DType compute;     ///< F32 or BF16
  DType residual;    ///< F32, or the same as compute
  int threads;
  bool training, ema;
  Recompute recompute = Recompute::Nothing;
  /// Threads per slot, out of `threads`; more than one if there are fewer slots than threads. Changes no bit.
  int threads_per_slot = 1;
  /// CUDA device ordinal, as visible to the process; none: the CPU.
  std::optional<int> device = std::nullopt;
  std::string optimizer = "adamw";  ///< optim::named()
  bool float8 = false;              ///< GraphOptions::float8; on devices only
};

/// Names of the states that the optimizer keeps; none where the engine does not train.
std::vector<std::string> moments_of(const EngineSpec& spec);

/// Rows of a batch with their random draws: `count` entries each, coefficients six times as many (a, b, p, q,
/// weight, timestep; see src/native/contract.ts).
struct SampleBatch {
  std::vector<int64_t> rows;
  std::vector<uint8_t> synthetic, dropped;
  std::vector<float> coefficients;
  std::vector<uint64_t> sample_ids;
  int64_t count() const { return static_cast<int64_t>(rows.size()); }
  bool operator==(const SampleBatch&) const = default;
};

/// A leaf of the tree of sums: one micro-batch or several, which are computed one after another.
struct SlotBatch {
  int64_t slot;
  SampleBatch samples;
};

struct AccumulateRequest {
  std::vector<SlotBatch> slots;  ///< contiguous, ascending, of equally many micro-batches
  int64_t total_slots;
  float grad_scale;
  uint64_t seed;
  uint32_t step;
  bool statistics;
  /// The first slot of the next step, if known: its rows may be prefetched while this step is computed.
  std::optional<SampleBatch> next = std::nullopt;
};

/// Statistics of one attention's logits over the micro-batches of a step, of the queries of one stream; the
/// entropy is in nats.
struct AttentionSummary {
  size_t attention;  ///< index into ModelGraph::attentions
  int stream;        ///< 0: the text's queries, 1: the image's
  float max_abs_logit;
  double mean_entropy;
  int64_t rows;
};

struct AccumulateResult {
  std::vector<std::vector<float>> losses;  ///< by slot and sample: mean squared error, unweighted
  std::vector<AttentionSummary> attention;
  /// Measurements by name, as src/native/engine-contract.ts lists them.
  std::vector<std::pair<const char*, double>> numbers;
};

/// Explicit inputs; see RawBatch in src/native/contract.ts.
struct RawBatch {
  std::vector<float> z, timestep, context, pooled;
  int64_t count() const { return static_cast<int64_t>(timestep.size()); }
};

/// Velocity [count, C, H, W], mean loss, and the gradients by name: those of the parameters and of the
/// inputs.
struct CaseResult {
  std::vector<float> velocity;
  double loss;
  std::vector<std::pair<std::string, std::vector<float>>> gradients;
};

/// Times of one kind of operation in the forward and backward pass of a micro-batch: seconds, FLOPs, bytes.
struct ProfileRow {
  std::string name;
  int count;
  double seconds, flops, bytes;
};

/// What a plan needs, known before anything is allocated. `length` is that of a flat array in elements;
/// `flops` are model FLOPs of a micro-batch, forward and backward.
struct PlanFigures {
  int64_t parameters, length;
  std::vector<std::string> moments;
  double flops;
  // By level of recomputation:
  std::vector<size_t> arena_bytes;     ///< for one thread
  std::vector<double> executed_flops;  ///< of a micro-batch, recomputation included
  /// of a micro-batch: operands of operations that are not matmuls
  std::vector<double> memory_bound_bytes;
};
PlanFigures plan_figures(const EngineSpec& spec);

/// The operations of a micro-batch's forward and backward pass by kind, in the order of the graph, without
/// times. Needs no allocation and no device.
std::vector<ProfileRow> plan_operations(const EngineSpec& spec);

/// A parameter's initial values: counter-based, from the seed and the parameter's name. `w` has p.length
/// elements.
void initial_values(const Parameter& p, float* w, uint64_t seed);
/// One row for every kind of operation, without times; row_of[i] is the row of node i.
std::vector<ProfileRow> profile_rows(const graph::Graph& g, std::vector<size_t>& row_of);

/// A flat array of the state: the weights, their EMA, and from Moments on those of the optimizer.
enum class State : uint8_t { Master, Ema, Moments };
constexpr State moment(size_t index) {
  return static_cast<State>(static_cast<size_t>(State::Moments) + index);
}

}  // namespace orch
