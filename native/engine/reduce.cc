// The gradient of the whole batch and its norm, of a lone engine and of a group's; and what a group shares.
#include <cmath>

#include "../kernels/kernels.h"
#include "engine.h"

namespace orch {

Engine::Norm Engine::norm(const float* gradient, const double* squares) const {
  double sum = 0;
  for (size_t i = 0; i < trained_.size(); ++i) sum += squares[i];
  Norm result{std::sqrt(sum), -1};
  if (std::isfinite(result.norm)) return result;
  for (const auto& [from, to] : trained_) {
    const int64_t found = kernels::cpu().raw.first_non_finite(gradient + from, to - from);
    if (found < 0) continue;
    result.first_non_finite = from + found;
    break;
  }
  return result;
}

Engine::Norm Engine::gradient_norm() {
  const float* g = sums_->parts().at(0).data;
  std::vector<double> squares(trained_.size());
  pool_.parallel(static_cast<int64_t>(trained_.size()), [&](int64_t i, int) {
    const auto [from, to] = trained_[i];
    squares[i] = kernels::cpu().raw.sum_of_squares(g + from, to - from);
  });
  return norm(g, squares.data());
}

void Engine::join(std::shared_ptr<Group> group) {
  // What was allocated for a lone engine was never touched, and goes.
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

void Engine::state_loaded() {
  if (group_) group_->meet();
  crop();
  ema16_stale_ = true;
  if (group_) group_->meet();
}

void Engine::share_out(int64_t count, const std::function<void(int64_t)>& piece) {
  if (group_)
    group_->share_out(pool_, count, piece);
  else
    pool_.parallel(count, [&](int64_t i, int) { piece(i); });
}

Engine::Norm Engine::reduce() {
  if (!group_) return gradient_norm();
  group_->exchange(sums_->parts(), sums_->total_slots(), static_cast<size_t>(table_.length) * sizeof(float));
  double* squares = squares_.as<double>();
  group_->share_out(pool_, static_cast<int64_t>(trained_.size()), [&](int64_t i) {
    const auto [from, to] = trained_[i];
    group_->add_up(from, to);
    squares[i] = kernels::cpu().raw.sum_of_squares(group_->sum() + from, to - from);
  });
  const Norm result = norm(group_->sum(), squares);
  // The caller will look for the cause, which overwrites the leader's sum.
  if (!std::isfinite(result.norm)) group_->meet();
  return result;
}

}  // namespace orch
