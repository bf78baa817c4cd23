#include "device_engine.h"

#include <cmath>
#include <cstring>

#include "../core/error.h"
#include "clock.h"

namespace orch {

using graph::DeviceMemory;

namespace {

/// One set of a slot's inputs.
struct Inputs {
  DeviceMemory x0, z, target, timestep, grad_scale, context, pooled;
  Inputs(graph::Device& device, const EngineSpec& spec, bool on_host) {
    const auto& m = spec.model;
    const auto& s = spec.shape;
    const size_t latent = sizeof(float) * s.samples * m.latent_channels * s.height * s.width;
    for (DeviceMemory* memory : {&x0, &z, &target}) *memory = DeviceMemory(device, latent, on_host);
    for (DeviceMemory* memory : {&timestep, &grad_scale})
      *memory = DeviceMemory(device, sizeof(float) * s.samples, on_host);
    context =
        DeviceMemory(device, size_of(spec.compute) * s.samples * s.context_tokens * m.context_dim, on_host);
    pooled = DeviceMemory(device, size_of(spec.compute) * s.samples * m.pooled_dim, on_host);
  }
};

}  // namespace

/// An executor with its arena, its inputs, and two sets of host memory that uploads come from.
struct DeviceEngine::Lane {
  Lane(graph::Device& d, const ModelGraph& model, const EngineSpec& spec, float* positions)
      : device(d),
        graph(model.graph),
        arena(d, graph.arena_bytes()),
        scratch(d, graph.scratch_bytes()),
        statistics(d, sizeof(kernels::AttentionStats) * std::max(1, graph.attentions())),
        inputs(d, spec, false),
        staging{{d, spec, true}, {d, spec, true}},
        executor(graph, arena.data(), scratch.data()) {
    executor.bind_input(kZ, inputs.z.data());
    executor.bind_input(kTimestep, inputs.timestep.data());
    executor.bind_input(kContext, inputs.context.data());
    executor.bind_input(kPooled, inputs.pooled.data());
    executor.bind_input(kPosition, positions);
    executor.bind_input(kTarget, inputs.target.data());
    executor.bind_input(kGradScale, inputs.grad_scale.data());
  }

  /// The set whose uploads are done.
  Inputs& next_staging() {
    turn ^= 1;
    device.await(marks[turn]);
    return staging[turn];
  }
  void staged() { marks[turn] = device.mark(); }
  void upload(const DeviceMemory& to, const DeviceMemory& from, size_t bytes = SIZE_MAX) {
    device.upload(to.data(), from.data(), std::min(bytes, to.bytes()));
  }

  /// Runs the graph; from the second time with the same operands on, as a recording.
  void run(float* weights, bf16* weights16, float* gradient, bool with_statistics) {
    auto* stats = with_statistics ? statistics.as<kernels::AttentionStats>() : nullptr;
    Recorded& r = recorded[{weights, gradient, with_statistics}];
    executor.bind_flat(weights, weights16, gradient);
    if (r.recording) return r.recording->replay();
    const auto work = [this, stats] { executor.run(stats, nullptr); };
    if (!std::exchange(r.ran, true)) return work();
    r.recording = device.record(work);
    r.recording->replay();
  }

  graph::Device& device;
  const graph::Graph& graph;
  DeviceMemory arena, scratch, statistics;
  Inputs inputs, staging[2];
  uint64_t marks[2] = {0, 0};
  int turn = 0;
  bool random = false;  ///< its inputs are random numbers already
  graph::Executor executor;

  struct Recorded {
    bool ran = false;
    std::unique_ptr<graph::Recording> recording;
  };
  std::map<std::tuple<float*, float*, bool>, Recorded> recorded;
};

DeviceEngine::DeviceEngine(const EngineSpec& spec, graph::Device& device)
    : spec_(spec),
      device_(device),
      table_(spec.model),
      graph_(build_mmdit(spec.model, table_, spec.shape,
                         {spec.compute, spec.residual, spec.training, false, spec.recompute, device})),
      pool_(std::max(1, spec.threads)) {
  const size_t bytes = static_cast<size_t>(table_.length) * sizeof(float);
  const auto allocate = [&](State s) {
    auto& memory = state_[static_cast<int>(s)];
    memory = DeviceMemory(device_, bytes);
    device_.fill(memory.data(), 0, bytes);
  };
  allocate(State::Master);
  if (spec.ema) allocate(State::Ema);
  if (spec.training) {
    allocate(State::M);
    allocate(State::V);
    sums_ = std::make_unique<DeviceSums>(device_, table_.length);
  }
  if (spec.compute == DType::BF16) weights16_ = DeviceMemory(device_, bytes / 2);
  positions_ = Buffer(static_cast<size_t>(position_elements()) * sizeof(float));
  position_table(spec.model, positions());
  const int64_t grid = (spec.shape.height / spec.model.patch) * (spec.shape.width / spec.model.patch);
  cropped_ = DeviceMemory(device_, static_cast<size_t>(grid * spec.model.hidden()) * sizeof(float));
  freeze({});
}

DeviceEngine::~DeviceEngine() = default;

int64_t DeviceEngine::position_elements() const {
  return spec_.model.pos_embed_max_size * spec_.model.pos_embed_max_size * spec_.model.hidden();
}

float* DeviceEngine::state(State s) {
  Buffer& host = host_state_[static_cast<int>(s)];
  if (!host) host = Buffer(state_[static_cast<int>(s)].bytes());
  return host.as<float>();
}

void DeviceEngine::fetch() {
  for (int s = 0; s < 4; ++s)
    if (state_[s]) device_.download(state(static_cast<State>(s)), state_[s].data(), state_[s].bytes());
}

void DeviceEngine::initialize(uint64_t seed) {
  pool_.parallel(static_cast<int64_t>(table_.parameters.size()), [&](int64_t i, int) {
    const Parameter& p = table_.parameters[i];
    initial_values(p, state(State::Master) + p.offset, seed);
  });
  if (has(State::Ema))
    std::copy(state(State::Master), state(State::Master) + table_.length, state(State::Ema));
  parameters_changed();
}

void DeviceEngine::parameters_changed() {
  for (int s = 0; s < 4; ++s)
    if (host_state_[s]) device_.upload(state_[s].data(), host_state_[s].data(), state_[s].bytes());
  Buffer cropped(cropped_.bytes());
  crop_positions(spec_.model, positions(), spec_.shape.height / spec_.model.patch,
                 spec_.shape.width / spec_.model.patch, cropped.as<float>());
  device_.upload(cropped_.data(), cropped.data(), cropped.bytes());
  if (weights16_) kernels().b16.from_f32(weights16_.as<bf16>(), on_device(State::Master), table_.length);
  ema16_stale_ = true;
  device_.synchronize();
}

void DeviceEngine::attach(std::shared_ptr<const Dataset> dataset, const TextSpec& text) {
  assembler_ = std::make_unique<BatchAssembler>(std::move(dataset), text, latent_elements());
}

// --- a slot
// ------------------------------------------------------------------------------------------------------

DeviceEngine::Lane& DeviceEngine::training_lane() {
  if (!training_lane_) training_lane_ = std::make_unique<Lane>(device_, *graph_, spec_, cropped_.as<float>());
  return *training_lane_;
}

DeviceEngine::Lane& DeviceEngine::forward_lane() {
  if (!forward_lane_) {
    forward_graph_ = build_mmdit(spec_.model, table_, spec_.shape,
                                 {spec_.compute, spec_.residual, false, false, Recompute::Nothing, device_});
    forward_lane_ = std::make_unique<Lane>(device_, *forward_graph_, spec_, cropped_.as<float>());
  }
  return *forward_lane_;
}

void DeviceEngine::run(Lane& lane, State weights, float* gradient, bool statistics) {
  if (weights == State::Ema) {
    if (!has(State::Ema)) throw Error("ERR_NO_EMA", "This engine holds no EMA weights");
    if (spec_.compute == DType::BF16 && ema16_stale_) {
      if (!ema16_) ema16_ = DeviceMemory(device_, weights16_.bytes());
      kernels().b16.from_f32(ema16_.as<bf16>(), on_device(State::Ema), table_.length);
      ema16_stale_ = false;
    }
  }
  lane.run(on_device(weights), (weights == State::Ema ? ema16_ : weights16_).as<bf16>(), gradient,
           statistics);
}

void DeviceEngine::fill(Lane& lane, const SampleBatch& batch, int64_t from, float grad_scale, uint64_t seed,
                        uint32_t step) {
  if (!assembler_) throw Error("ERR_INTERNAL", "No dataset is attached to the engine");
  // The last chunk of an evaluation may be short; its free places repeat the last sample and are not read.
  const int64_t n = spec_.shape.samples, elements = latent_elements(), last = batch.count() - 1;
  std::vector<int64_t> rows(n);
  std::vector<uint8_t> synthetic(n), dropped(n);
  Inputs& host = lane.next_staging();
  for (int64_t i = 0; i < n; ++i) {
    const int64_t s = std::min(from + i, last);
    rows[i] = batch.rows[s];
    synthetic[i] = batch.synthetic[s];
    dropped[i] = batch.dropped[s];
    host.grad_scale.as<float>()[i] = batch.coefficients[6 * s + 4] * grad_scale;
    host.timestep.as<float>()[i] = batch.coefficients[6 * s + 5];
  }
  const BatchRows r{n, rows.data(), synthetic.data(), dropped.data()};
  if (spec_.compute == DType::BF16)
    assembler_->assemble(r, host.x0.as<float>(), host.context.as<bf16>(), host.pooled.as<bf16>());
  else
    assembler_->assemble(r, host.x0.as<float>(), host.context.as<float>(), host.pooled.as<float>());
  for (auto member : {&Inputs::x0, &Inputs::context, &Inputs::pooled, &Inputs::timestep, &Inputs::grad_scale})
    lane.upload(lane.inputs.*member, host.*member);
  lane.staged();
  for (int64_t i = 0; i < n; ++i) {
    const int64_t s = std::min(from + i, last);
    const float* c = &batch.coefficients[6 * s];
    kernels().raw.mix_noise(lane.inputs.z.as<float>() + i * elements,
                            lane.inputs.target.as<float>() + i * elements,
                            lane.inputs.x0.as<float>() + i * elements, c[0], c[1], c[2], c[3],
                            {seed, 0, step, batch.sample_ids[s]}, elements);
  }
}

void DeviceEngine::fill(Lane& lane, const RawBatch& batch, int64_t from) {
  const int64_t n = std::min(spec_.shape.samples, batch.count() - from);
  const int64_t z = latent_elements(), c = context_elements(), p = spec_.model.pooled_dim;
  Inputs& host = lane.next_staging();
  std::memcpy(host.z.data(), &batch.z[from * z], sizeof(float) * n * z);
  std::memcpy(host.timestep.data(), &batch.timestep[from], sizeof(float) * n);
  const auto text = [&](const DeviceMemory& to, const float* values, int64_t count) {
    if (spec_.compute == DType::BF16)
      kernels::cpu().b16.from_f32(to.as<bf16>(), values, count);
    else
      std::memcpy(to.data(), values, sizeof(float) * count);
  };
  text(host.context, &batch.context[from * c], n * c);
  text(host.pooled, &batch.pooled[from * p], n * p);
  for (auto member : {&Inputs::z, &Inputs::context, &Inputs::pooled, &Inputs::timestep})
    lane.upload(lane.inputs.*member, host.*member);
  lane.staged();
}

// --- training
// ------------------------------------------------------------------------------------------------------

AccumulateResult DeviceEngine::accumulate(const AccumulateRequest& request,
                                          const std::function<void(int)>& on_bucket) {
  if (!spec_.training) throw Error("ERR_INTERNAL", "This engine was made for inference");
  const int64_t count = static_cast<int64_t>(request.slots.size()), samples = spec_.shape.samples;
  if (count == 0) throw Error("ERR_INTERNAL", "accumulate: no slots");
  for (int64_t i = 0; i < count; ++i)
    if (request.slots[i].samples.count() != samples || request.slots[i].slot != request.slots[0].slot + i)
      throw Error("ERR_TENSOR_SHAPE", "Slots must be contiguous, of " + std::to_string(samples) + " samples");
  sums_->begin(request.slots[0].slot, request.slots[0].slot + count, request.total_slots);

  Lane& lane = training_lane();
  const int attentions = graph_->graph.attentions();
  const size_t loss_bytes = sizeof(float) * samples;
  if (losses_.bytes() < loss_bytes * count) {
    losses_ = DeviceMemory(device_, loss_bytes * count);
    statistics_ = DeviceMemory(device_, lane.statistics.bytes() * count);
  }
  AccumulateResult result;
  const double start = seconds_now();
  // The next slot's rows are gathered while the device works on those before.
  for (int64_t i = 0; i < count; ++i) {
    const double began = seconds_now();
    fill(lane, request.slots[i].samples, 0, request.grad_scale, request.seed, request.step);
    result.gather_seconds += seconds_now() - began;
    float* gradient = sums_->acquire();
    run(lane, State::Master, gradient, request.statistics);
    device_.copy(losses_.as<char>() + i * loss_bytes, lane.executor.data(graph_->loss), loss_bytes);
    if (request.statistics)
      device_.copy(statistics_.as<char>() + i * lane.statistics.bytes(), lane.statistics.data(),
                   lane.statistics.bytes());
    sums_->complete(gradient);
  }
  std::vector<float> host_losses(count * samples);
  device_.download(host_losses.data(), losses_.data(), loss_bytes * count);
  result.compute_seconds = seconds_now() - start;
  for (int64_t i = 0; i < count; ++i)
    result.losses.emplace_back(host_losses.begin() + i * samples, host_losses.begin() + (i + 1) * samples);

  if (request.statistics) {
    std::vector<kernels::AttentionStats> stats(count * std::max(1, attentions));
    device_.download(stats.data(), statistics_.data(), lane.statistics.bytes() * count);
    for (int a = 0; a < attentions; ++a) {
      AttentionSummary summary{0, 0};
      int64_t rows = 0;
      for (int64_t i = 0; i < count; ++i) {
        const auto& s = stats[i * attentions + a];
        summary.max_abs_logit = std::max(summary.max_abs_logit, s.max_abs_logit);
        summary.mean_entropy += s.entropy_sum;
        rows += s.rows;
      }
      summary.mean_entropy /= static_cast<double>(rows);
      result.attention.push_back(summary);
    }
  }

  const auto sums = sums_->parts();
  const bool exchange = sums.size() > 1 || sums[0].lo != 0 || sums[0].hi != request.total_slots;
  parts_.clear();
  for (size_t i = 0; i < sums.size(); ++i) {
    if (exchange && host_parts_.size() <= i)
      host_parts_.emplace_back(static_cast<size_t>(table_.length) * sizeof(float));
    parts_.push_back({sums[i].lo, sums[i].hi, exchange ? host_parts_[i].as<float>() : nullptr});
  }
  for (size_t b = 0; b < table_.buckets.size(); ++b) {
    const Bucket& bucket = table_.buckets[b];
    if (exchange)
      for (size_t i = 0; i < sums.size(); ++i)
        device_.download(parts_[i].data + bucket.offset, sums[i].data + bucket.offset,
                         sizeof(float) * bucket.length);
    on_bucket(static_cast<int>(b));
  }
  return result;
}

void DeviceEngine::freeze(const std::vector<std::pair<int64_t, int64_t>>& ranges) {
  trained_.clear();
  int64_t at = 0;
  for (const auto& [from, to] : ranges) {
    if (from < at || to < from || to > table_.length)
      throw Error("ERR_NATIVE_ARGUMENT",
                  "freeze: ranges must be ascending, disjoint and within the parameters");
    if (from > at) trained_.emplace_back(at, from);
    at = to;
  }
  if (at < table_.length) trained_.emplace_back(at, table_.length);
}

Engine::Norm DeviceEngine::gradient_norm() {
  float* const gradient = sums_->parts().at(0).data;
  // The sum over workers was put into the first part's host memory.
  if (!parts_.empty() && parts_[0].data)
    device_.upload(gradient, parts_[0].data, static_cast<size_t>(table_.length) * sizeof(float));
  double sum = 0;
  for (const auto& [from, to] : trained_) sum += kernels().raw.sum_of_squares(gradient + from, to - from);
  Engine::Norm result{std::sqrt(sum), -1};
  if (std::isfinite(result.norm)) return result;
  for (const auto& [from, to] : trained_) {
    const int64_t found = kernels().raw.first_non_finite(gradient + from, to - from);
    if (found < 0) continue;
    result.first_non_finite = from + found;
    break;
  }
  return result;
}

void DeviceEngine::update(const UpdateRequest& u) {
  const double step = static_cast<double>(u.step);
  const kernels::AdamW o{u.lr,
                         u.beta1,
                         u.beta2,
                         u.eps,
                         u.weight_decay,
                         1 - std::pow(u.beta1, step),
                         1 - std::pow(u.beta2, step),
                         static_cast<float>(u.grad_scale),
                         u.ema_decay};
  const float* gradient = sums_->parts().at(0).data;
  const bool ema = has(State::Ema) && u.ema_decay != 1;
  for (const auto& [from, to] : trained_)
    kernels().raw.adamw(on_device(State::Master) + from, on_device(State::M) + from,
                        on_device(State::V) + from, ema ? on_device(State::Ema) + from : nullptr,
                        weights16_ ? weights16_.as<bf16>() + from : nullptr, gradient + from, to - from, o);
  if (ema) ema16_stale_ = true;
}

// --- forward only
// --------------------------------------------------------------------------------------------------

std::vector<float> DeviceEngine::evaluate(const SampleBatch& batch, State weights, uint64_t seed,
                                          uint32_t step) {
  Lane& lane = forward_lane();
  const int64_t size = spec_.shape.samples, count = batch.count();
  std::vector<float> losses(count);
  for (int64_t at = 0; at < count; at += size) {
    fill(lane, batch, at, 0, seed, step);
    run(lane, weights, nullptr, false);
    device_.download(&losses[at], lane.executor.data(forward_graph_->loss),
                     sizeof(float) * std::min(size, count - at));
  }
  return losses;
}

std::vector<float> DeviceEngine::predict(const RawBatch& batch, State weights) {
  Lane& lane = forward_lane();
  const int64_t size = spec_.shape.samples, count = batch.count(), elements = latent_elements();
  device_.fill(lane.inputs.target.data(), 0, lane.inputs.target.bytes());  // of the loss, which is not read
  std::vector<float> velocity(count * elements);
  for (int64_t at = 0; at < count; at += size) {
    fill(lane, batch, at);
    run(lane, weights, nullptr, false);
    device_.download(&velocity[at * elements], lane.executor.data(forward_graph_->velocity),
                     sizeof(float) * elements * std::min(size, count - at));
  }
  return velocity;
}

CaseResult DeviceEngine::evaluate_case(const RawBatch& batch, const std::vector<float>& target,
                                       bool gradients) {
  const int64_t samples = spec_.shape.samples;
  if (batch.count() != samples || target.size() != batch.z.size())
    throw Error("ERR_TENSOR_SHAPE", "A case must have exactly " + std::to_string(samples) +
                                        " samples and a target of the latent's shape");
  auto built = build_mmdit(spec_.model, table_, spec_.shape,
                           {spec_.compute, spec_.residual, gradients, gradients, spec_.recompute, device_});
  Lane lane(device_, *built, spec_, cropped_.as<float>());
  device_.fill(lane.arena.data(), 0xff,
               lane.arena.bytes());  // what is read before it is written shows as NaN
  DeviceMemory gradient;
  if (gradients) {
    gradient = DeviceMemory(device_, static_cast<size_t>(table_.length) * sizeof(float));
    device_.fill(gradient.data(), 0xff, gradient.bytes());
  }
  fill(lane, batch, 0);
  const std::vector<float> scale(samples, 1.0f / static_cast<float>(samples));
  device_.upload(lane.inputs.target.data(), target.data(), sizeof(float) * target.size());
  device_.upload(lane.inputs.grad_scale.data(), scale.data(), sizeof(float) * samples);
  run(lane, State::Master, gradient.as<float>(), false);

  CaseResult result;
  const auto read = [&](const void* from, int64_t n) {
    std::vector<float> values(n);
    device_.download(values.data(), from, sizeof(float) * n);
    return values;
  };
  result.velocity = read(lane.executor.data(built->velocity), static_cast<int64_t>(target.size()));
  result.loss = 0;
  for (float l : read(lane.executor.data(built->loss), samples))
    result.loss += l / static_cast<double>(samples);
  if (!gradients) return result;
  for (const Parameter& p : table_.parameters)
    result.gradients.emplace_back(p.name, read(gradient.as<float>() + p.offset, p.length));
  for (graph::Ref input : {built->z, built->context, built->pooled}) {
    const auto& value = built->graph[input];
    result.gradients.emplace_back(
        value.name, read(lane.executor.data(built->graph.reverse().of(input)), graph::elements(value.shape)));
  }
  return result;
}

// --- measuring
// -----------------------------------------------------------------------------------------------------

size_t DeviceEngine::device_bytes() const {
  size_t sum = weights16_.bytes() + ema16_.bytes() + cropped_.bytes();
  for (const auto& s : state_) sum += s.bytes();
  if (sums_) sum += sums_->bytes();
  for (const auto* lane : {training_lane_.get(), forward_lane_.get()})
    if (lane) sum += lane->arena.bytes() + lane->scratch.bytes();
  return sum;
}

void DeviceEngine::random_inputs(Lane& lane) {
  const auto& in = lane.inputs;
  const auto draw = [&](const DeviceMemory& to, DType type, uint64_t id) {
    const int64_t n = static_cast<int64_t>(to.bytes() / size_of(type));
    if (type == DType::F32) return kernels().raw.normal(to.as<float>(), {1, 0, 0, id}, n);
    DeviceMemory numbers(device_, sizeof(float) * n);
    kernels().raw.normal(numbers.as<float>(), {1, 0, 0, id}, n);
    kernels().b16.from_f32(to.as<bf16>(), numbers.as<float>(), n);
    device_.synchronize();
  };
  draw(in.z, DType::F32, 1);
  draw(in.target, DType::F32, 2);
  draw(in.context, spec_.compute, 3);
  draw(in.pooled, spec_.compute, 4);
  const int64_t n = spec_.shape.samples;
  std::vector<float> timestep(n), scale(n, 1.0f / static_cast<float>(n));
  for (int64_t i = 0; i < n; ++i) timestep[i] = 1000.0f * static_cast<float>(i + 1) / static_cast<float>(n);
  device_.upload(in.timestep.data(), timestep.data(), in.timestep.bytes());
  device_.upload(in.grad_scale.data(), scale.data(), in.grad_scale.bytes());
  device_.synchronize();
}

void DeviceEngine::random_weights() {
  const int64_t n = table_.length;
  kernels().raw.normal(on_device(State::Master), {1, 0, 0, 5}, n);
  kernels().raw.scale_into(on_device(State::Master), 0.02f, n);
  if (weights16_) kernels().b16.from_f32(weights16_.as<bf16>(), on_device(State::Master), n);
  const Buffer zeros(cropped_.bytes());
  device_.upload(cropped_.data(), zeros.data(), zeros.bytes());
  device_.synchronize();
}

void DeviceEngine::run_random_slot(bool statistics) {
  Lane& lane = training_lane();
  if (!std::exchange(lane.random, true)) random_inputs(lane);
  parts_.clear();
  sums_->begin(0, 1, 1);
  float* gradient = sums_->acquire();
  run(lane, State::Master, gradient, statistics);
  sums_->complete(gradient);
}

std::vector<ProfileRow> DeviceEngine::profile(int repeats) {
  const auto& g = graph_->graph;
  Lane& lane = training_lane();
  if (!std::exchange(lane.random, true)) random_inputs(lane);
  DeviceMemory gradient(device_, spec_.training ? static_cast<size_t>(table_.length) * sizeof(float) : 0);
  lane.executor.bind_flat(on_device(State::Master), weights16_.as<bf16>(), gradient.as<float>());
  std::vector<ProfileRow> rows;
  std::vector<size_t> row_of;
  std::map<std::string, size_t> known;
  for (const graph::Node& node : g.nodes()) {
    auto [it, fresh] = known.try_emplace(node.op->name(), rows.size());
    if (fresh) rows.push_back({node.op->name(), 0, 0, 0, 0});
    ProfileRow& row = rows[it->second];
    row.count += 1;
    row.flops += node.op->flops();
    row.bytes += bytes_of(g, node);
    row_of.push_back(it->second);
  }
  lane.executor.run(nullptr, nullptr);
  device_.synchronize();
  for (int i = 0; i < repeats; ++i)
    for (size_t n = 0; n < g.nodes().size(); ++n)
      rows[row_of[n]].seconds += device_.time([&] { lane.executor.run_node(n, nullptr); }) / repeats;
  return rows;
}

}  // namespace orch
