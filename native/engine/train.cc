// A training step after accumulate.cc: the sum of the gradients over all workers, its norm, and the update.
#include <cmath>
#include <numeric>

#include "../core/error.h"
#include "../core/watchdog.h"
#include "../faults/faults.h"
#include "lane.h"

namespace orch {
std::vector<GradientPart> Engine::parts() {
  if (device_.is_cpu()) return sums_ ? sums_->parts_now() : std::vector<GradientPart>{};
  std::lock_guard lock(parts_mutex_);
  return parts_;
}

float* Engine::gradient() const {
  check_training();
  if (sums_->parts().empty() || !sums_->parts()[0].data)
    throw Error("ERR_INTERNAL", "There is no gradient: a whole accumulate comes first");
  return sums_->parts()[0].data;
}

// --- pieces of the flat arrays

void Engine::parallel_for(int64_t count, const std::function<void(int64_t)>& piece) {
  if (device_.is_cpu()) return pool_.parallel(count, [&](int64_t i, int) { piece(i); });
  for (int64_t i = 0; i < count; ++i) piece(i);
}

Ranges Engine::pieces(const Ranges& ranges) const {
  constexpr int64_t kPiece = 1 << 16;  // elements; fixed: sums do not depend on the number of threads
  if (!device_.is_cpu()) return ranges;
  Ranges pieces;
  for (const auto& [from, to] : ranges)
    for (int64_t at = from; at < to; at += kPiece) pieces.emplace_back(at, std::min(at + kPiece, to));
  return pieces;
}

Ranges outside(const Ranges& frozen, int64_t length) {
  Ranges rest;
  int64_t at = 0, last = 0;
  for (const auto& [from, to] : frozen) {
    if (from < last || to < from || to > length)
      throw Error("ERR_NATIVE_ARGUMENT",
                  "freeze: ranges must be ascending, disjoint and within the parameters");
    if (from > at) rest.emplace_back(at, from);
    // A parameter begins at a multiple of 16 elements, as a device's vector accesses require; the padding
    // before it belongs to no parameter.
    at = (to + 15) / 16 * 16;
    last = to;
  }
  if (at < length) rest.emplace_back(at, length);
  return rest;
}

void Engine::freeze(const Ranges& frozen) {
  // The group's table of squares has one entry per piece at the time it was created.
  if (group_) throw Error("ERR_INTERNAL", "freeze: after join");
  trained_ = pieces(outside(frozen, table_.length));
  if (spec_.training) squares_ = device_.allocate(trained_.size() * sizeof(double));
  norms_.clear();
  updates_.clear();
}

// --- the norm of the gradient

void Engine::sum_squares(double* sum, const float* x, const std::pair<int64_t, int64_t>& range) const {
  device_.fill(sum, 0, sizeof(double));
  kernels().raw.add_squares(sum, x + range.first, range.second - range.first);
}

void Engine::enqueue_norm(const float* gradient) {
  norms_[gradient](device_, [this, gradient] {
    parallel_for(static_cast<int64_t>(trained_.size()),
                 [&](int64_t i) { sum_squares(squares_.as<double>() + i, gradient, trained_[i]); });
  });
  norm_enqueued_ = true;
}

Engine::Norm Engine::norm(const Buffer& squares, const float* gradient) const {
  std::vector<double> sums(trained_.size());
  device_.download(sums.data(), squares.data(), sums.size() * sizeof(double));
  // Added in order, so that the sum does not depend on who computed what.
  Norm result{std::sqrt(std::accumulate(sums.begin(), sums.end(), 0.0)), -1};
  if (std::isfinite(result.norm)) return result;
  for (const auto& [from, to] : trained_) {
    const int64_t found = kernels().raw.first_non_finite(gradient + from, to - from);
    if (found < 0) continue;
    result.first_non_finite = from + found;
    break;
  }
  return result;
}

Engine::Norm Engine::gradient_norm() {
  float* const gradient = this->gradient();
  // The sum over the workers was written to the host memory of the first part.
  if (!parts_.empty() && parts_[0].data) device_.upload(gradient, parts_[0].data, flat_bytes());
  if (!norm_enqueued_) enqueue_norm(gradient);
  norm_enqueued_ = false;
  return norm(squares_, gradient);
}

Engine::Norm Engine::reduce() {
  const InStage now_at(connected() ? Stage::Wait : Stage::Exchange);
  gradient();
  if (!group_) {
    const int64_t received = connected() ? exchange_->sum(sums_->parts()) : 0;
    Norm result = gradient_norm();
    result.received = received;
    return result;
  }
  const auto presence = group_->presence();
  group_->exchange(sums_->parts(), sums_->total_slots(), flat_bytes());
  group_->parallel_for(pool_, static_cast<int64_t>(trained_.size()), [&](int64_t i, int) {
    group_->sum_parts(trained_[i].first, trained_[i].second);
    ORCH_FAULT(summing);
    sum_squares(group_squares_.as<double>() + i, group_->sum(), trained_[i]);
  });
  const Norm result = norm(group_squares_, group_->sum());
  // The caller will look for the cause, which overwrites the leader's sum.
  if (!std::isfinite(result.norm)) group_->barrier();
  return result;
}

std::vector<double> Engine::gradient_norms(const Ranges& ranges) {
  const float* gradient = this->gradient();  // of this engine, so that there is one
  if (group_) gradient = group_->sum();
  Ranges parts;
  std::vector<size_t> range_of;
  for (size_t r = 0; r < ranges.size(); ++r) {
    const auto [from, to] = ranges[r];
    if (from % 16 != 0 || to < from || to > table_.length)
      throw Error("ERR_NATIVE_ARGUMENT",
                  "gradientNorms: ranges must begin at parameters and end within them");
    for (const auto& [low, high] : trained_) {
      if (std::max(low, from) >= std::min(high, to)) continue;
      parts.emplace_back(std::max(low, from), std::min(high, to));
      range_of.push_back(r);
    }
  }
  const Buffer squares = device_.allocate(std::max<size_t>(1, parts.size()) * sizeof(double));
  parallel_for(static_cast<int64_t>(parts.size()),
               [&](int64_t i) { sum_squares(squares.as<double>() + i, gradient, parts[i]); });
  std::vector<double> sums(parts.size()), norms(ranges.size());
  device_.download(sums.data(), squares.data(), sums.size() * sizeof(double));
  for (size_t i = 0; i < parts.size(); ++i) norms[range_of[i]] += sums[i];
  for (double& norm : norms) norm = std::sqrt(norm);
  return norms;
}

double Engine::ema_distance() {
  check_training();
  if (!has(State::Ema)) throw Error("ERR_NO_EMA", "This engine holds no EMA");
  const bool cpu = device_.is_cpu();
  // Fixed, like that of pieces(), so that sums do not depend on the number of threads.
  const int64_t most = cpu ? 1 << 16 : 1 << 24;
  Ranges chunks;
  for (const auto& [from, to] : trained_)
    for (int64_t at = from; at < to; at += most) chunks.emplace_back(at, std::min(at + most, to));
  const auto count = static_cast<int64_t>(chunks.size());
  const Buffer squares = device_.allocate(std::max<size_t>(1, 2 * chunks.size()) * sizeof(double)),
               scratch = device_.allocate(sizeof(float) * most * (cpu ? spec_.threads : 1));
  const auto chunk = [&](int64_t i, int thread) {
    const auto [from, to] = chunks[i];
    const int64_t n = to - from;
    double* const sums = squares.as<double>() + 2 * i;
    float* const difference = scratch.as<float>() + thread * most;
    device_.copy(difference, flat(State::Master) + from, sizeof(float) * n);
    sum_squares(sums, difference, {0, n});
    kernels().raw.scale_into(difference, -1, n);
    kernels().f32.add(difference, difference, flat(State::Ema) + from, n);
    sum_squares(sums + 1, difference, {0, n});
  };
  if (cpu)
    pool_.parallel(count, chunk);
  else
    for (int64_t i = 0; i < count; ++i) chunk(i, 0);
  std::vector<double> sums(2 * chunks.size());
  device_.download(sums.data(), squares.data(), sums.size() * sizeof(double));
  double weights = 0, difference = 0;
  for (size_t i = 0; i < sums.size(); i += 2) {
    weights += sums[i];
    difference += sums[i + 1];
  }
  return weights > 0 ? std::sqrt(difference / weights) : 0;
}

// --- other workers

std::string Engine::rendezvous(int rank, const std::vector<SlotRange>& slots) {
  auto exchange = std::make_unique<DeviceExchange>(device_, rank, slots, table_.buckets);
  std::string address = exchange->rendezvous();
  std::lock_guard lock(exchange_mutex_);
  exchange_ = std::move(exchange);
  return address;
}

void Engine::connect_devices(const std::string& leader) {
  const InStage now_at(Stage::Wait);
  if (!exchange_) throw Error("ERR_INTERNAL", "connect_devices: rendezvous was not called");
  exchange_->connect(leader);
  sums_->divide(table_.buckets);
}

std::vector<int64_t> Engine::part_ends() const {
  std::vector<int64_t> ends;
  // The exchange takes the buckets in their order, so one that is complete early waits for those before it.
  for (const int64_t ready : bucket_ready_)
    if (ends.empty() || ready >= ends.back()) ends.push_back(ready + 1);
  ends.back() = std::ssize(graph_->graph.nodes());
  return ends;
}

void Engine::abort_devices() {
  std::lock_guard lock(exchange_mutex_);
  if (exchange_) exchange_->abort();
}

// --- the update

void Engine::update(const UpdateRequest& u) {
  const InStage now_at(Stage::Update);
  before_writing();
  const bool ema = has(State::Ema) && u.ema_decay != 1;
  if (group_) {
    update_shared(u.step, ema, optimizer_.update(u));
  } else {
    device_.await_event(update_uploaded_);
    const float* const gradient = this->gradient();
    *update_host_.as<optim::Update>() = optimizer_.update(u);
    device_.upload(update_.data(), update_host_.data(), update_.bytes());
    update_uploaded_ = device_.record_event();
    updates_[{gradient, ema}](device_, [this, gradient, ema] {
      parallel_for(static_cast<int64_t>(trained_.size()), [&](int64_t i) {
        ORCH_FAULT(updating);
        const auto [from, to] = trained_[i];
        const Updated at = updated_at(from, ema);
        kernels().raw.update[optimizer_.index](at.weights, at.moments.data(), at.ema, at.weights16,
                                               gradient + from, to - from, update_.as<optim::Update>());
      });
    });
  }
  if (ema) ema16_stale_ = true;
  mark_copies_stale();
}

Engine::Updated Engine::updated_at(int64_t from, bool ema) const {
  Updated at{flat(State::Master) + from,
             {},
             ema ? flat(State::Ema) + from : nullptr,
             weights16_ ? weights16_.as<bf16>() + from : nullptr};
  for (size_t m = 0; m < optimizer_.moments.size(); ++m) at.moments.push_back(flat(moment(m)) + from);
  return at;
}

}  // namespace orch
