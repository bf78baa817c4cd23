// A model and the state of its training on a device (graph/device.h), which may be the CPU: weights,
// optimizer state and executors. Functions block and must run on the pool's driver thread (pool().post),
// except where a comment says otherwise; the addon wraps them in promises.
//
// Sizes: a flat array (weights, state, gradient) has table().length elements, padding included.
#pragma once
#include <algorithm>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "../core/error.h"
#include "../core/pool.h"
#include "../data/batch.h"
#include "../graph/device.h"
#include "../model/model.h"
#include "device_exchange.h"
#include "gradient_sums.h"
#include "group.h"
#include "requests.h"
#include "slot_tree.h"

namespace orch {

class Copying;

class Engine {
 public:
  explicit Engine(const EngineSpec& spec, graph::Device& device = graph::cpu_device());
  ~Engine();

  Pool& pool() { return pool_; }
  graph::Device& device() { return device_; }
  const EngineSpec& spec() const { return spec_; }
  const ParameterTable& table() const { return table_; }
  const ModelGraph& training_graph() const { return *graph_; }
  /// Model FLOPs of a micro-batch, forward and backward.
  double flops() const { return 3 * graph_->forward_flops; }
  size_t arena_bytes() const { return graph_->graph.arena_bytes(); }
  /// Numbers of elements of one sample's latent, of its context, and of the position table.
  int64_t latent_elements() const;
  int64_t context_elements() const { return spec_.shape.context_tokens * spec_.model.context_dim; }
  int64_t position_elements() const;
  /// Bytes of device memory held by this process; 0 on the CPU. May be called from any thread.
  size_t device_bytes() const { return device_.held_bytes(); }

  /// What computes the attention of its model: a library, or the own kernels and why; none on the CPU.
  std::optional<std::string> attention_by();

  /// The states that it has.
  const std::vector<State>& states() const { return states_; }
  bool has(State s) const { return std::find(states_.begin(), states_.end(), s) != states_.end(); }
  const optim::Optimizer& optimizer() const { return optimizer_; }
  /// "master", "ema", and the names of the optimizer's moments.
  std::string name_of(State s) const;
  /// The current values of a parameter, by its index in table(). On the CPU this is the state itself; on a
  /// GPU it is a host copy, which becomes stale with the next update and is refreshed by the next call. The
  /// address does not change.
  float* state(State s, size_t parameter);
  /// The whole flat array.
  float* state(State s);
  float* positions() const { return positions_.as<float>(); }

  /// Sets all weights, and the EMA, to their initial_values(). Does not touch the optimizer's moments.
  void initialize(uint64_t seed);
  /// Digest of the state and the positions: equal bits give equal digests on every machine and device.
  std::string digest();
  /// Must be called after the memory returned by state(), or the positions, were written.
  void parameters_changed();
  /// Sets the dataset. Not on the driver thread, and before the first accumulate or evaluate. Throws
  /// Error(ERR_DATA_SHAPE) or Error(ERR_DATA_COLUMN).
  void attach(std::shared_ptr<const Dataset> dataset, const TextSpec& text);

  /// Computes and sums the gradients of the slots. A slot's micro-batches are added in their order; in fp32
  /// on the CPU, a deep product by passes (kDepth, matmul.cc). `on_bucket` is called one call at a time, in
  /// bucket order, by the thread that completed it. Throws Error(ERR_TENSOR_SHAPE) and errors of reading
  /// data.
  ///
  /// If a GPU is connected, and the slots are those of rendezvous(), the exchange of a bucket starts when the
  /// last slot's last micro-batch has completed it, and reduce() must follow. Throws Error(ERR_EXCHANGE)
  /// then.
  AccumulateResult accumulate(const AccumulateRequest& request, std::function<void(int)> on_bucket);
  /// The local sums of gradients, in host memory; may be called from any thread. The data is null before the
  /// first bucket of a part is complete. If a GPU has all slots of the step, or is connected, host memory
  /// does not need the sums and their data is null.
  std::vector<GradientPart> parts();

  struct Norm {
    double norm;
    int64_t first_non_finite;
    int64_t received = 0;  ///< bytes received from other devices
  };
  /// Norm of the gradient, which must be a single part: all slots are local, or the sum was written into the
  /// first part.
  Norm gradient_norm();
  /// Norms of the gradient of the last reduce() or gradient_norm() in each of these ranges, which begin at
  /// parameters; frozen parameters count as zero. Their squares add up to the norm's, but for rounding. Not
  /// collective: in a group, only the leader may call it. Before the next accumulate(). Throws
  /// Error(ERR_NATIVE_ARGUMENT).
  std::vector<double> gradient_norms(const Ranges& ranges);
  /// |EMA - weights| / |weights| over the parameters that are trained. Not collective. Throws
  /// Error(ERR_NO_EMA).
  double ema_distance();
  struct Joined {
    int64_t step;       ///< after which the state is; SharedState::kNoStep: there is none
    int64_t completed;  ///< pieces of the last update that members of former generations had left out
  };
  /// Joins a generation of a group, which was formed: from now on this engine's state is the group's, and
  /// reduce() and update() are collective. join() is collective itself; the first time, call it before
  /// accumulate() and before anything is written into the state. If members were killed in the middle of an
  /// update, the others complete it. Throws Error(ERR_SHARED_MEMORY), also on a GPU, and Error(ERR_EXCHANGE).
  Joined join(std::shared_ptr<Group> group, uint64_t generation);
  bool has_joined() const { return group_ != nullptr; }
  /// Rendezvous: prepares to all-reduce gradients with other devices, as `rank` of the workers with these
  /// slots. Returns the string that the other ranks need (graph::Device::rendezvous). Throws Error(ERR_CUDA)
  /// if that is impossible, saying why; always on the CPU.
  std::string rendezvous(int rank, const std::vector<SlotRange>& slots);
  /// Connects; from now on reduce() is collective. Collective itself; before the first accumulate. Throws
  /// Error(ERR_EXCHANGE).
  /// @param leader rendezvous string of rank 0
  void connect_devices(const std::string& leader);
  /// Aborts every wait for other devices, in progress or later, until the next rendezvous(). May be called
  /// from any thread.
  void abort_devices();
  /// Collective. Called after the leader wrote the state, or where it stays: makes it visible to all members
  /// as that after this step.
  void state_loaded(int64_t step);
  /// Collective. All-reduces the gradients of all workers that joined or connected, and returns the norm of
  /// the sum. Throws Error(ERR_EXCHANGE).
  Norm reduce();
  /// Freezes the parameters in the element ranges [from, to), ascending and disjoint: updates skip them, and
  /// their gradients count as zero. Before join().
  void freeze(const Ranges& frozen);
  /// One step of the optimizer with the gradient of reduce() or gradient_norm(), and of the EMA. Collective
  /// in a group.
  void update(const UpdateRequest& request);
  /// Starts a copy of the state as it is now, concurrent with the driver's work, also with that of a GPU.
  /// `done` is called with the exception that occurred, or null, from this or another thread. Whatever writes
  /// the state waits for the copy.
  void snapshot(std::function<void(std::exception_ptr)> done);
  /// On a GPU: begins to get the memory of snapshots, page-locked, on a thread of its own, so that the first
  /// one finds it. If that fails, the first snapshot does.
  void prepare_snapshot();
  /// A parameter's values in the last snapshot, by its index in table(). The address does not change.
  float* snapshot_of(State s, size_t parameter) const {
    return array(s).snapshot.memory.as<float>() + table_.parameters[parameter].offset;
  }
  /// From done() of a snapshot to the next one: seconds for which an update, or another write, waited for it.
  double snapshot_stall() {
    std::lock_guard lock(snapshot_mutex_);
    return snapshot_.stall_seconds;
  }
  /// From done() of a snapshot on: why its memory could not be page-locked, which makes copies from a GPU
  /// slower; empty if it was, and on the CPU.
  const std::string& snapshot_pageable() const { return pageable_; }
  /// For benches, before the first snapshot: does not page-lock its memory.
  void leave_snapshots_pageable() { pageable_ = "it was not asked for"; }

  /// Mean squared error of every sample, unweighted; a batch may have any number of samples. Throws
  /// Error(ERR_NO_EMA) for State::Ema if the engine has none; so does predict().
  std::vector<float> evaluate(const SampleBatch& batch, State weights, uint64_t seed, uint32_t step);
  /// Velocity [count, C, H, W] of explicit inputs.
  std::vector<float> predict(const RawBatch& batch, State weights);
  /// Loss and velocity of one micro-batch of explicit inputs against a target [samples, C, H, W], and
  /// optionally all gradients.
  CaseResult evaluate_case(const RawBatch& batch, const std::vector<float>& target, bool gradients);
  /// Runs forward passes over the batch, in calls of one micro-batch each. `seen` is called after each node,
  /// with a function that returns its operands in host memory. The nodes of one call are run by one thread.
  using Operand = std::function<const void*(graph::Ref)>;
  using Seen = std::function<void(int64_t call, const graph::Graph& graph, const graph::Node& node,
                                  const Operand& operand)>;
  void observe(const RawBatch& batch, State weights, const Seen& seen);

  /// The pass of one micro-batch by kind of operation, averaged over `repeats`: seconds of one thread, or by
  /// the GPU's clock, with the operations run one by one.
  std::vector<ProfileRow> profile(int repeats);

  /// For benches. random_weights() draws weights from N(0, 0.02^2) on the device, because zeros would be
  /// faster than real weights. run_random_slots() enqueues a step's slots, each of
  /// `micro_batches`, with random inputs.
  void random_weights();
  void run_random_slots(int64_t slots, int64_t micro_batches, bool statistics);

 private:
  struct Inputs;
  struct Lane;  // lane.h
  /// The source of inputs.
  struct Source {
    SampleBatch samples;
    float grad_scale;
    uint64_t seed;
    uint32_t step;
    bool operator==(const Source&) const = default;
  };
  using Lanes = std::vector<std::unique_ptr<Lane>>;

  // --- a micro-batch
  /// The nodes at which a connected GPU's last micro-batch is divided, each the end of a part.
  std::vector<int64_t> part_ends() const;
  /// How many micro-batches are computed at a time.
  size_t lanes() const;
  /// One of the lanes for this graph, made when it is first needed.
  Lane& lane(Lanes& lanes, const ModelGraph& model, int at);
  /// Calls piece(index, lane) for every index in [0, count), at most one per lane at a time.
  void each_slot(int64_t count, Lanes& lanes, const ModelGraph& model,
                 const std::function<void(int64_t index, Lane& lane)>& piece);
  /// Gathers the samples of a micro-batch, from one of the source's on, into host memory, with x0 in the
  /// place of z. If the source ends earlier, its last sample fills the remaining places, whose results are
  /// not read.
  void gather(const Inputs& to, const Source& of, int64_t from) const;
  /// Gathers z, context, pooled and timestep.
  void gather(const Inputs& to, const RawBatch& batch, int64_t from) const;
  /// Gathers the same, and prefetches it to a GPU while that computes.
  void stage(Lane& lane, const Source& of, int64_t from) const;
  /// Makes the staged inputs the graph's and mixes the latents with noise into z and target.
  void take_mixed(Lane& lane) const;
  /// Makes samples of a batch the graph's inputs, from one on.
  void fill(Lane& lane, const RawBatch& batch, int64_t from) const;
  /// Gives a lane random inputs; it keeps them.
  void fill_random(Lane& lane) const;
  /// Updates the bf16 copy of these weights if it is stale, and returns it; null in fp32.
  bf16* prepare(State weights);
  /// Calls pass(lane, from, count) for every micro-batch, with the lane bound to the weights.
  void forward(int64_t count, State weights,
               const std::function<void(Lane& lane, bf16* weights16, int64_t from, int64_t count)>& pass);

  // --- training
  struct Accumulation;  // accumulate.cc
  /// Announces the buckets of a GPU, which it first copies to host memory if other workers need them there.
  void publish(bool to_host, const std::function<void(int)>& on_bucket);
  /// The sum of the first part, on the device. Throws Error(ERR_INTERNAL) if there is none.
  float* gradient() const;
  bool connected() const { return exchange_ && exchange_->connected(); }
  /// Calls piece(i) for every i in [0, count), on all threads of the CPU.
  void parallel_for(int64_t count, const std::function<void(int64_t)>& piece);
  /// Cut into pieces of fixed size on the CPU, for its threads.
  Ranges pieces(const Ranges& ranges) const;
  /// Writes the sum of squares of the range's elements.
  void sum_squares(double* sum, const float* x, const std::pair<int64_t, int64_t>& range) const;
  /// Enqueues the sums of squares of the gradient.
  void enqueue_norm(const float* gradient);
  /// The norm, from the sums of squares of the pieces of trained_.
  Norm norm(const Buffer& squares, const float* gradient) const;

  // --- snapshots
  /// Runs on the snapshot's thread. Returns its failure, or null.
  std::exception_ptr copy_state();
  /// Gets the memory of an array's snapshot, and page-locks its parts up to this one, unless that was done.
  void get_snapshot_part(State s, int64_t part);
  int64_t snapshot_parts() const;  ///< of an array
  /// Enqueues the copy of an array, and counts its parts.
  void enqueue_copy(State s, Copying& copying, int64_t& parts);
  /// Returns when no snapshot is in progress.
  void await_snapshot();
  /// Before the state is written: work enqueued from now on starts after the copy that is in progress.
  void before_writing();

  // --- updates
  /// What an update changes, from one element on.
  struct Updated {
    float* weights;
    std::vector<float*> moments;
    float* ema;  ///< null: it stays
    bf16* weights16;
  };
  Updated updated_at(int64_t from, bool ema) const;
  void update_shared(int64_t step, bool ema, const optim::Update& factors);
  /// Updates a piece of trained_ from one of its elements on, so that others can complete it.
  void update_piece(int thread, int64_t piece, int64_t first, const SharedState::Update& update,
                    const float* sum);
  /// Collective. Completes the last update, if a member that knows its gradients is left; if none is, there
  /// is no state. Returns how many pieces were completed.
  int64_t complete_update();
  /// Undoes the part of a piece in whose middle a thread was killed. Returns the element of the piece at
  /// which its update goes on.
  int64_t undo_piece(int64_t piece, const SharedState::Update& update);

  // --- the state
  /// A copy of an array in host memory.
  struct HostCopy {
    Buffer memory;
    std::vector<std::shared_ptr<void>> locked;  ///< page-locked parts; freed before the memory
  };
  /// A flat array of the state.
  struct Array {
    Buffer memory;
    Buffer copy;  ///< of a GPU's memory, on the host
    /// By parameter: whether the copy has the device's values, or values still to be uploaded.
    std::vector<bool> current;
    HostCopy snapshot;
  };
  Array& array(State s) { return arrays_[static_cast<size_t>(s)]; }
  const Array& array(State s) const { return arrays_[static_cast<size_t>(s)]; }
  float* flat(State s) const { return array(s).memory.as<float>(); }
  size_t flat_bytes() const { return static_cast<size_t>(table_.length) * sizeof(float); }
  /// Marks the host copies as stale: the device's state has changed.
  void mark_copies_stale();
  void to_bf16(bf16* to, const float* from);
  /// Copies the part of the position table that the slot's shape uses.
  void crop();
  /// kernels::kDigestLanes numbers for every piece of an array, in the device's memory or the host's.
  std::vector<uint64_t> piece_digests(State s);
  std::vector<uint64_t> piece_digests(const float* x, int64_t n);

  /// Throw Error(ERR_TENSOR_SHAPE) if arrays do not fit the model or each other.
  void check(const AccumulateRequest& request) const;
  /// Throws Error(ERR_INTERNAL) in an engine that was made for inference.
  void check_training() const;
  void check(const SampleBatch& batch) const;
  void check(const RawBatch& batch) const;

  const kernels::Table& kernels() const { return device_.kernels(); }

  const kernels::CpuUse kernels_stay_;  // first: what follows is built for the kernels of cpu()
  graph::Device& device_;
  const EngineSpec spec_;
  const ParameterTable table_;
  const optim::Optimizer& optimizer_;
  std::unique_ptr<ModelGraph> graph_;          // for training, or forward only
  std::unique_ptr<ModelGraph> forward_graph_;  // made when it is needed
  std::unique_ptr<BatchAssembler> assembler_;

  std::vector<State> states_;
  std::vector<Array> arrays_;  // by State
  Buffer weights16_, ema16_;   // bf16 copies of the matmul weights
  bool ema16_stale_ = true;
  Buffer positions_, cropped_;  // the whole table is in host memory
  Lanes training_lanes_, forward_lanes_;

  Buffer losses_, statistics_;  // of all micro-batches of a step
  std::unique_ptr<GradientSums> sums_;
  std::vector<int64_t> bucket_ready_;  // by bucket of the table: the node after which it is complete
  std::vector<Buffer> host_parts_;
  std::mutex parts_mutex_;
  std::vector<GradientPart> parts_;  // of a GPU

  Ranges trained_;  // what is not frozen, in pieces
  Buffer squares_;  // the gradient's sums of squares, doubles by piece of trained_
  bool norm_enqueued_ = false;
  Buffer update_host_, update_;  // an optim::Update, in host memory and on the device
  uint64_t update_uploaded_ = 0;
  std::map<const float*, graph::Repeated> norms_;  // recordings, by gradient
  // recordings, by gradient and by whether the EMA is updated
  std::map<std::pair<const float*, bool>, graph::Repeated> updates_;

  std::shared_ptr<Group> group_;  // null: not in a group
  Buffer group_squares_;          // the same as squares_ for the group's sum
  Buffer undo_;                   // undo logs of this engine's threads
  std::mutex exchange_mutex_;     // guards the pointer
  // if not connected, the step is alone or exchanges through host memory
  std::unique_ptr<DeviceExchange> exchange_;

  /// The last snapshot.
  struct Snapshot {
    bool running = false;                                ///< until it is complete, or has failed
    bool enqueued = false;                               ///< all copies are on the device's snapshot stream
    std::optional<double> awaited_since = std::nullopt;  ///< the time at which the state was to be written
    double stall_seconds = 0;
  };
  std::mutex snapshot_mutex_;
  std::condition_variable snapshot_changed_;
  Snapshot snapshot_;
  std::mutex snapshot_memory_mutex_;  // while memory of snapshots is got
  std::string pageable_;              // snapshot_pageable()
  std::atomic<bool> closing_{false};
  std::thread snapshot_thread_, preparing_;

  Pool pool_;  // last: its threads end before the members they use
};

/// Creates an engine on the CPU, or on the GPU that the spec names. Throws Error(ERR_MODEL_SPEC),
/// Error(ERR_OUT_OF_MEMORY), and Error(ERR_CUDA) if there is no such device.
std::unique_ptr<Engine> make_engine(const EngineSpec& spec);

}  // namespace orch
