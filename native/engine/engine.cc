// The common part of all engines.
#include "engine.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "../core/error.h"
#include "../kernels/digest.h"
#include "../kernels/open_cuda.h"
#include "device_engine.h"
#include "host_engine.h"

namespace orch {

Engine::Engine(const EngineSpec& spec, const graph::Backend& backend)
    : spec_(spec),
      table_(spec.model),
      graph_(build_mmdit(spec.model, table_, spec.shape,
                         {spec.compute, spec.residual, spec.training, false, spec.recompute, backend})),
      positions_(static_cast<size_t>(position_elements()) * sizeof(float)) {
  position_table(spec.model, positions());
  Engine::freeze({});
}

std::unique_ptr<Engine> make_engine(const EngineSpec& spec) {
  if (!spec.device) return std::make_unique<HostEngine>(spec);
  return std::make_unique<DeviceEngine>(spec, kernels::open_cuda(*spec.device));
}

int64_t Engine::latent_elements() const {
  return spec_.model.latent_channels * spec_.shape.height * spec_.shape.width;
}

int64_t Engine::position_elements() const {
  return spec_.model.pos_embed_max_size * spec_.model.pos_embed_max_size * spec_.model.hidden();
}

int64_t Engine::cropped_elements() const {
  return (spec_.shape.height / spec_.model.patch) * (spec_.shape.width / spec_.model.patch) *
         spec_.model.hidden();
}

void Engine::crop(float* to) const {
  crop_positions(spec_.model, positions(), spec_.shape.height / spec_.model.patch,
                 spec_.shape.width / spec_.model.patch, to);
}

float* Engine::state(State s) {
  for (size_t i = 0; i < table_.parameters.size(); ++i) state(s, i);
  return state(s, 0) - table_.parameters[0].offset;
}

void Engine::initialize(uint64_t seed) {
  float* const master = state(State::Master);
  const auto& list = table_.parameters;
  pool().parallel(static_cast<int64_t>(list.size()),
                  [&](int64_t i, int) { initial_values(list[i], master + list[i].offset, seed); });
  if (has(State::Ema)) std::copy(master, master + table_.length, state(State::Ema));
  parameters_changed();
}

std::string Engine::digest() {
  uint64_t sums[2] = {kernels::digest_start(0), kernels::digest_start(1)};
  const auto add = [&](uint64_t word) {
    sums[0] = kernels::digest_step(sums[0], word);
    sums[1] = kernels::digest_step(sums[1], ~word);
  };
  const auto add_all = [&](const std::vector<uint64_t>& words, uint64_t label) {
    add(label);
    for (uint64_t word : words) add(word);
  };
  for (State s : kStates)
    if (has(s)) add_all(piece_digests(s), static_cast<uint64_t>(s));
  add_all(piece_digests(positions(), position_elements()), 4);
  char text[33];
  std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(sums[0]),
                static_cast<unsigned long long>(sums[1]));
  return text;
}

std::vector<uint64_t> Engine::piece_digests(const float* x, int64_t n) {
  using namespace kernels;
  std::vector<uint64_t> lanes(digest_pieces(n) * kDigestLanes);
  pool().parallel(digest_pieces(n), [&](int64_t i, int) {
    const int64_t at = i * kDigestPiece;
    cpu().raw.digest(&lanes[i * kDigestLanes], x + at, std::min(kDigestPiece, n - at));
  });
  return lanes;
}

void Engine::attach(std::shared_ptr<const Dataset> dataset, const TextSpec& text) {
  if (text.context_tokens() != spec_.shape.context_tokens || text.context_dim() != spec_.model.context_dim ||
      text.pooled_dim() != spec_.model.pooled_dim)
    throw Error("ERR_DATA_SHAPE",
                "The data set's text (" + std::to_string(text.context_tokens()) + " tokens of " +
                    std::to_string(text.context_dim()) + ", pooled " + std::to_string(text.pooled_dim()) +
                    ") is not what the model was built for (" + std::to_string(spec_.shape.context_tokens) +
                    " of " + std::to_string(spec_.model.context_dim) + ", pooled " +
                    std::to_string(spec_.model.pooled_dim) + ")");
  assembler_ = std::make_unique<BatchAssembler>(std::move(dataset), text, latent_elements());
}

// --- checks

void Engine::check_training() const {
  if (!spec_.training) throw Error("ERR_INTERNAL", "This engine was created for inference only");
}

void Engine::check(const AccumulateRequest& request) const {
  check_training();
  if (request.slots.empty()) throw Error("ERR_INTERNAL", "accumulate: no slots");
  if (request.next) check(*request.next);
  for (size_t i = 0; i < request.slots.size(); ++i) {
    check(request.slots[i].samples);
    if (request.slots[i].samples.count() != spec_.shape.samples ||
        request.slots[i].slot != request.slots[0].slot + static_cast<int64_t>(i))
      throw Error("ERR_TENSOR_SHAPE",
                  "Slots must be contiguous, of " + std::to_string(spec_.shape.samples) + " samples");
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
    throw Error("ERR_TENSOR_SHAPE",
                "The inputs of a batch of " + std::to_string(n) + " have other shapes than the model");
}

void Engine::check_case(const RawBatch& batch, const std::vector<float>& target) const {
  check(batch);
  if (batch.count() != spec_.shape.samples || target.size() != batch.z.size())
    throw Error("ERR_TENSOR_SHAPE", "A case must have exactly " + std::to_string(spec_.shape.samples) +
                                        " samples and a target of the latent's shape");
}

// --- a slot's inputs

void Engine::gather(const SlotInputs& to, const SampleBatch& batch, int64_t from, float grad_scale,
                    uint64_t seed, uint32_t step) const {
  const int64_t n = spec_.shape.samples, last = batch.count() - 1;
  std::vector<int64_t> rows(n);
  std::vector<uint8_t> synthetic(n), dropped(n);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t s = std::min(from + i, last);
    rows[i] = batch.rows[s];
    synthetic[i] = batch.synthetic[s];
    dropped[i] = batch.dropped[s];
    const float* c = &batch.coefficients[6 * s];
    to.mixes[i] = {c[0], c[1], c[2], c[3], {seed, 0, step, batch.sample_ids[s]}};
    to.grad_scale[i] = c[4] * grad_scale;
    to.timestep[i] = c[5];
  }
  const BatchRows r{n, rows.data(), synthetic.data(), dropped.data()};
  if (spec_.compute == DType::BF16)
    assembler_->assemble(r, to.x0, static_cast<bf16*>(to.context), static_cast<bf16*>(to.pooled));
  else
    assembler_->assemble(r, to.x0, static_cast<float*>(to.context), static_cast<float*>(to.pooled));
}

void Engine::gather(const SlotInputs& to, const RawBatch& batch, int64_t from) const {
  const int64_t n = std::min(spec_.shape.samples, batch.count() - from);
  const auto put = [&](void* at, const std::vector<float>& values, int64_t width, DType type) {
    if (type == DType::BF16)
      kernels::cpu().b16.from_f32(static_cast<bf16*>(at), &values[from * width], n * width);
    else
      std::memcpy(at, &values[from * width], sizeof(float) * n * width);
  };
  put(to.z, batch.z, latent_elements(), DType::F32);
  put(to.timestep, batch.timestep, 1, DType::F32);
  put(to.context, batch.context, context_elements(), spec_.compute);
  put(to.pooled, batch.pooled, spec_.model.pooled_dim, spec_.compute);
}

// --- gradients and groups

Engine::Norm Engine::norm(const kernels::Table& kernels, const float* gradient, double sum_of_squares) const {
  Norm result{std::sqrt(sum_of_squares), -1};
  if (std::isfinite(result.norm)) return result;
  for (const auto& [from, to] : trained_) {
    const int64_t found = kernels.raw.first_non_finite(gradient + from, to - from);
    if (found < 0) continue;
    result.first_non_finite = from + found;
    break;
  }
  return result;
}

void Engine::join(std::shared_ptr<Group>) {
  throw Error("ERR_SHARED_MEMORY", "Workers on GPUs cannot share memory; they exchange over gRPC");
}

std::string Engine::offer_device(int, const std::vector<SlotRange>&) {
  throw Error("ERR_CUDA", "An engine on the CPU cannot be connected to GPUs");
}
void Engine::connect_devices(const std::string&) {
  throw Error("ERR_CUDA", "An engine on the CPU cannot be connected to GPUs");
}

}  // namespace orch
