// An engine's state, and the checks of what it is given.
#include "engine.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "../core/error.h"
#include "../faults/faults.h"
#include "../kernels/digest.h"
#include "../kernels/open_cuda.h"
#include "lane.h"

namespace orch {

std::vector<std::string> moments_of(const EngineSpec& spec) {
  const optim::Optimizer& optimizer = optim::named(spec.optimizer);
  return spec.training ? optimizer.moments : std::vector<std::string>{};
}

namespace {

/// In digests the states have their numbers as labels, and the positions this one.
constexpr uint64_t kPositionsLabel = 4;
template <class... Rules>
constexpr bool are_below_positions(optim::List<Rules...>) {
  return ((static_cast<uint64_t>(State::Moments) + optim::kMomentsOf<Rules> <= kPositionsLabel) && ...);
}
static_assert(are_below_positions(optim::All{}), "a moment has the label of the positions");

const EngineSpec& checked(const EngineSpec& spec, const graph::Device& device) {
  if (!spec.float8) return spec;
  const std::string problem =
      spec.compute == DType::BF16 ? device.float8_problem() : "the other activations have to be bf16";
  if (!problem.empty()) throw Error("ERR_MODEL_SPEC", "Linear layers in fp8: ", problem);
  return spec;
}

}  // namespace

Engine::Engine(const EngineSpec& spec, graph::Device& device)
    : device_(device),
      spec_(checked(spec, device)),
      table_(spec.model),
      optimizer_(optim::named(spec.optimizer)),
      graph_(build_model(
          spec.model, table_, spec.shape,
          {spec.compute, spec.residual, spec.training, false, spec.recompute, spec.float8, device})),
      positions_(static_cast<size_t>(position_elements()) * sizeof(float)),
      pool_(std::max(1, spec.threads)) {
  states_.push_back(State::Master);
  if (spec.ema) states_.push_back(State::Ema);
  for (size_t i = 0; i < moments_of(spec).size(); ++i) states_.push_back(moment(i));
  arrays_.resize(static_cast<size_t>(State::Moments) + optimizer_.moments.size());
  for (State s : states_) {
    array(s).memory = device_.allocate(flat_bytes());
    // On the CPU it is zero already, and untouched pages take no memory should the engine join a group.
    if (!device_.is_cpu()) device_.fill(flat(s), 0, flat_bytes());
  }
  mark_copies_stale();
  if (spec.compute == DType::BF16) weights16_ = device_.allocate(flat_bytes() / 2);
  cropped_ =
      device_.allocate(static_cast<size_t>(spec.shape.height / spec.model.patch *
                                           (spec.shape.width / spec.model.patch) * spec.model.hidden()) *
                       sizeof(float));
  position_table(spec.model, positions());
  crop();
  if (spec.training) {
    // A GPU's gradient is added in one launch, unless it is exchanged by bucket: connect_devices().
    sums_ = std::make_unique<GradientSums>(
        device_, table_.length, device_.is_cpu() ? table_.buckets : std::vector<Bucket>{{0, table_.length}});
    for (const Bucket& b : table_.buckets)
      bucket_ready_.push_back(graph_->graph.last_writer(b.offset, b.length));
    update_ = device_.allocate(sizeof(optim::Update));
    update_host_ = device_.allocate_host(sizeof(optim::Update));
  }
  training_lanes_.resize(lanes());
  forward_lanes_.resize(lanes());
  freeze({});
}

Engine::~Engine() {
  pool_.finish();  // one of its jobs may start a snapshot
  closing_ = true;
  for (std::thread* t : {&snapshot_thread_, &preparing_})
    if (t->joinable()) t->join();
}

std::unique_ptr<Engine> make_engine(const EngineSpec& spec) {
  return std::make_unique<Engine>(spec, spec.device ? kernels::open_cuda(*spec.device) : graph::cpu_device());
}

int64_t Engine::latent_elements() const {
  return spec_.model.latent_channels * spec_.shape.height * spec_.shape.width;
}

int64_t Engine::position_elements() const {
  return spec_.model.pos_embed_max_size * spec_.model.pos_embed_max_size * spec_.model.hidden();
}

// --- the state

void Engine::crop() {
  const Buffer cropped(cropped_.bytes());
  crop_positions(spec_.model, positions(), spec_.shape.height / spec_.model.patch,
                 spec_.shape.width / spec_.model.patch, cropped.as<float>());
  device_.upload(cropped_.data(), cropped.data(), cropped.bytes());
  device_.synchronize();
}

std::string Engine::name_of(State s) const {
  if (s == State::Master) return "master";
  if (s == State::Ema) return "ema";
  return optimizer_.moments.at(static_cast<size_t>(s) - static_cast<size_t>(State::Moments));
}

float* Engine::state(State s, size_t parameter) {
  ORCH_FAULT_SERVES();
  Array& a = array(s);
  const Parameter& p = table_.parameters[parameter];
  if (device_.is_cpu()) return flat(s) + p.offset;
  if (!a.copy) a.copy = Buffer(flat_bytes());
  float* const copy = a.copy.as<float>() + p.offset;
  if (!a.current[parameter]) device_.download(copy, flat(s) + p.offset, sizeof(float) * p.length);
  a.current[parameter] = true;
  return copy;
}

float* Engine::state(State s) {
  for (size_t i = 0; i < table_.parameters.size(); ++i) state(s, i);
  return state(s, 0) - table_.parameters[0].offset;
}

void Engine::initialize(uint64_t seed) {
  float* const master = state(State::Master);
  const auto& list = table_.parameters;
  pool_.parallel(static_cast<int64_t>(list.size()),
                 [&](int64_t i, int) { initial_values(list[i], master + list[i].offset, seed); });
  if (has(State::Ema)) std::copy(master, master + table_.length, state(State::Ema));
  parameters_changed();
}

std::string Engine::digest() {
  uint64_t first = kernels::digest_start(0), second = kernels::digest_start(1);
  const auto add = [&](uint64_t label, std::vector<uint64_t> words) {
    words.insert(words.begin(), label);
    for (uint64_t word : words) {
      first = kernels::digest_step(first, word);
      second = kernels::digest_step(second, ~word);
    }
  };
  for (State s : states_) add(static_cast<uint64_t>(s), piece_digests(s));
  add(kPositionsLabel, piece_digests(positions(), position_elements()));
  char text[33];
  std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(first),
                static_cast<unsigned long long>(second));
  return text;
}

std::vector<uint64_t> Engine::piece_digests(State s) {
  if (device_.is_cpu()) return piece_digests(flat(s), table_.length);
  std::vector<uint64_t> lanes(kernels::digest_pieces(table_.length) * kernels::kDigestLanes);
  const Buffer on_device = device_.allocate(lanes.size() * sizeof(uint64_t));
  kernels().raw.digest(on_device.as<uint64_t>(), flat(s), table_.length);
  device_.download(lanes.data(), on_device.data(), on_device.bytes());
  return lanes;
}

std::vector<uint64_t> Engine::piece_digests(const float* x, int64_t n) {
  using namespace kernels;
  std::vector<uint64_t> lanes(digest_pieces(n) * kDigestLanes);
  pool_.parallel(digest_pieces(n), [&](int64_t i, int) {
    ORCH_FAULT(hashing);
    const int64_t at = i * kDigestPiece;
    cpu().raw.digest(&lanes[i * kDigestLanes], x + at, std::min(kDigestPiece, n - at));
  });
  return lanes;
}

void Engine::mark_copies_stale() {
  for (Array& a : arrays_) a.current.assign(table_.parameters.size(), false);
}

void Engine::parameters_changed() {
  before_writing();
  for (State s : states_)
    for (size_t i = 0; i < table_.parameters.size(); ++i) {
      const Parameter& p = table_.parameters[i];
      if (array(s).current[i])
        device_.upload(flat(s) + p.offset, array(s).copy.as<float>() + p.offset, sizeof(float) * p.length);
    }
  crop();
  if (weights16_) to_bf16(weights16_.as<bf16>(), flat(State::Master));
  ema16_stale_ = true;
  device_.synchronize();
}

void Engine::to_bf16(bf16* to, const float* from) {
  const Ranges all = pieces({{0, table_.length}});
  parallel_for(static_cast<int64_t>(all.size()), [&](int64_t i) {
    const auto [at, end] = all[i];
    kernels().b16.from_f32(to + at, from + at, end - at);
  });
}

bf16* Engine::prepare(State weights) {
  if (weights != State::Ema) return weights16_.as<bf16>();
  if (!has(State::Ema)) throw Error("ERR_NO_EMA", "This engine has no EMA weights");
  if (spec_.compute == DType::BF16 && std::exchange(ema16_stale_, false)) {
    if (!ema16_) ema16_ = device_.allocate(weights16_.bytes());
    to_bf16(ema16_.as<bf16>(), flat(State::Ema));
  }
  return ema16_.as<bf16>();
}

void Engine::attach(std::shared_ptr<const Dataset> dataset, const TextSpec& text) {
  if (text.context_tokens() != spec_.shape.context_tokens || text.context_dim() != spec_.model.context_dim ||
      text.pooled_dim() != spec_.model.pooled_dim)
    throw Error("ERR_DATA_SHAPE", "The data set's text (", text.context_tokens(), " tokens of ",
                text.context_dim(), ", pooled ", text.pooled_dim(), ") is not what the model was built for (",
                spec_.shape.context_tokens, " of ", spec_.model.context_dim, ", pooled ",
                spec_.model.pooled_dim, ")");
  assembler_ = std::make_unique<BatchAssembler>(std::move(dataset), text, latent_elements(), spec_.compute);
}

// --- checks

void Engine::check_training() const {
  if (!spec_.training) throw Error("ERR_INTERNAL", "This engine was created for inference only");
}

void Engine::check(const AccumulateRequest& request) const {
  check_training();
  if (request.slots.empty()) throw Error("ERR_INTERNAL", "accumulate: no slots");
  if (request.next) check(*request.next);
  const int64_t samples = spec_.shape.samples, count = request.slots[0].samples.count();
  for (size_t i = 0; i < request.slots.size(); ++i) {
    check(request.slots[i].samples);
    if (count % samples != 0 || request.slots[i].samples.count() != count ||
        request.slots[i].slot != request.slots[0].slot + static_cast<int64_t>(i))
      throw Error("ERR_TENSOR_SHAPE", "Slots must be contiguous, of equally many micro-batches of ", samples,
                  " samples");
  }
}

void Engine::check(const SampleBatch& b) const {
  const size_t n = b.rows.size();
  if (!assembler_) throw Error("ERR_INTERNAL", "No dataset is attached to the engine");
  if (n == 0 || b.synthetic.size() != n || b.dropped.size() != n || b.coefficients.size() != 6 * n ||
      b.sample_ids.size() != n)
    throw Error("ERR_TENSOR_SHAPE", "The arrays of a batch differ in length");
}

void Engine::check(const RawBatch& b) const {
  const size_t n = b.timestep.size();
  if (n == 0 || b.z.size() != n * latent_elements() || b.context.size() != n * context_elements() ||
      b.pooled.size() != n * spec_.model.pooled_dim)
    throw Error("ERR_TENSOR_SHAPE", "The inputs of a batch of ", n, " have other shapes than the model");
}

}  // namespace orch
