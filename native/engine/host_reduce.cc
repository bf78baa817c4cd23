// The gradient of the whole batch and its norm, for a single engine and for a group; and what a group shares.
#include <cmath>
#include <numeric>

#include "../core/error.h"
#include "../kernels/kernels.h"
#include "host_engine.h"

namespace orch {

namespace {
/// Added in order, so that the sum does not depend on who computed what.
double sum(const double* values, size_t count) { return std::accumulate(values, values + count, 0.0); }
}  // namespace

Engine::Norm HostEngine::gradient_norm() {
  const float* g = gradient();
  std::vector<double> squares(trained_.size());
  pool_.parallel(static_cast<int64_t>(trained_.size()), [&](int64_t i, int) {
    const auto [from, to] = trained_[i];
    squares[i] = 0;
    kernels::cpu().raw.add_squares(&squares[i], g + from, to - from);
  });
  return norm(kernels::cpu(), g, sum(squares.data(), squares.size()));
}

void HostEngine::join(std::shared_ptr<Group> group) {
  if (group_) throw Error("ERR_INTERNAL", "join: this engine has joined a group already");
  if (sums_ && sums_->total_slots() > 0) throw Error("ERR_INTERNAL", "join: after accumulate");
  if (!group->formed()) throw Error("ERR_SHARED_MEMORY", "The group is not formed yet");
  // The memory allocated before the engine joined was never touched, and is freed.
  for (Buffer& s : state_)
    if (s) s = group->shared(s.bytes());
  if (weights16_) weights16_ = group->shared(weights16_.bytes());
  positions_ = group->shared(positions_.bytes());
  squares_ = group->shared(trained_.size() * sizeof(double));
  sums_->allocate_with([g = group.get()](size_t bytes) { return g->allocate(bytes); });
  group_ = std::move(group);
  if (group_->leads()) position_table(spec_.model, positions());
  state_loaded();
}

void HostEngine::state_loaded() {
  if (group_) group_->barrier();
  crop(cropped_.as<float>());
  ema16_stale_ = true;
  if (group_) group_->barrier();
}

void HostEngine::parallel_for(int64_t count, const std::function<void(int64_t)>& piece) {
  if (group_)
    group_->parallel_for(pool_, count, piece);
  else
    pool_.parallel(count, [&](int64_t i, int) { piece(i); });
}

Engine::Norm HostEngine::reduce() {
  if (!group_) return gradient_norm();
  gradient();
  group_->exchange(sums_->parts(), sums_->total_slots(), static_cast<size_t>(table_.length) * sizeof(float));
  double* squares = squares_.as<double>();
  group_->parallel_for(pool_, static_cast<int64_t>(trained_.size()), [&](int64_t i) {
    const auto [from, to] = trained_[i];
    group_->sum_parts(from, to);
    squares[i] = 0;
    kernels::cpu().raw.add_squares(&squares[i], group_->sum() + from, to - from);
  });
  const Norm result = norm(kernels::cpu(), group_->sum(), sum(squares, trained_.size()));
  // The caller will look for the cause, which overwrites the leader's sum.
  if (!std::isfinite(result.norm)) group_->barrier();
  return result;
}

}  // namespace orch
