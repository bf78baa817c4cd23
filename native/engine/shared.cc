// An engine whose state is shared with other workers: it joins them, generation after generation, updates the
// state together with them, and completes updates that those who were killed have left.
#include "../core/error.h"
#include "../faults/faults.h"
#include "engine.h"

namespace orch {

Engine::Joined Engine::join(std::shared_ptr<Group> group, uint64_t generation) {
  if (!device_.is_cpu())
    throw Error("ERR_SHARED_MEMORY", "Workers on GPUs cannot share memory; they exchange over gRPC");
  if (group_ && group_ != group) throw Error("ERR_INTERNAL", "join: this engine has joined another group");
  if (!group_ && sums_ && sums_->total_slots() > 0) throw Error("ERR_INTERNAL", "join: after accumulate");
  await_snapshot();
  if (!undo_) undo_ = group->allocate(static_cast<size_t>(pool_.threads()) * sizeof(optim::UndoLog));
  group->enter(generation, undo_);
  const auto presence = group->presence();
  group->share_state(static_cast<int64_t>(trained_.size()), [&](SharedState& state) {
    // The memory allocated before was never touched, and is freed.
    for (State s : states_) array(s).memory = state.map(flat_bytes());
    if (weights16_) weights16_ = state.map(weights16_.bytes());
    positions_ = state.map(positions_.bytes());
    group_squares_ = state.map(squares_.bytes());
    sums_->allocate_with([g = group.get()](size_t bytes) { return g->allocate(bytes); });
  });
  group_ = std::move(group);
  // Also where the generation that has made the memory has ended before it came here.
  if (group_->leads() && group_->state().step() == SharedState::kNoStep)
    position_table(spec_.model, positions());
  const int64_t completed = complete_update();
  sums_->abandon();
  crop();
  ema16_stale_ = true;
  return {group_->state().step(), completed};
}

void Engine::state_loaded(int64_t step) {
  ORCH_FAULT_STEP(step);
  if (group_) {
    const auto presence = group_->presence();
    group_->barrier();
    if (group_->leads()) group_->state().set_step(step);
    group_->barrier();
  }
  crop();
  ema16_stale_ = true;
}

// --- updates

void Engine::update_shared(int64_t step, bool ema, const optim::Update& factors) {
  const auto presence = group_->presence();
  group_->wait_released();
  gradient();  // of this engine, so that there is one
  const SharedState::Update update{step, ema, factors, group_->sum_id()};
  group_->state().begin(update);
  group_->parallel_for(pool_, static_cast<int64_t>(trained_.size()),
                       [&](int64_t i, int thread) { update_piece(thread, i, 0, update, group_->sum()); });
}

void Engine::update_piece(int thread, int64_t piece, int64_t first, const SharedState::Update& update,
                          const float* sum) {
  const auto [begin, to] = trained_[piece];
  const int64_t from = begin + first;
  optim::UndoLog& log = undo_.as<optim::UndoLog>()[thread];
  log.claim(static_cast<uint32_t>(update.step), static_cast<uint32_t>(piece), first);
  ORCH_FAULT(updating);
  const Updated at = updated_at(from, update.ema);
  kernels().raw.logged_update[optimizer_.index](at.weights, at.moments.data(), at.ema, at.weights16,
                                                sum + from, to - from, &update.factors, &log);
  ORCH_FAULT(stamping);
  group_->state().stamp(piece, update.step);
}

int64_t Engine::complete_update() {
  SharedState& state = group_->state();
  // Nobody updates now, so all members come to the same pieces.
  const std::vector<int64_t> torn = state.torn();
  const SharedState::Update update = state.last();
  const float* const sum = torn.empty() ? nullptr : group_->sum_of(update.sum);
  const bool possible = group_->any(sum != nullptr);
  const auto count = static_cast<int64_t>(torn.size());
  if (count > 0 && possible)
    group_->parallel_for(
        pool_, count,
        [&](int64_t i, int thread) {
          update_piece(thread, torn[i], undo_piece(torn[i], update), update, sum);
        },
        sum != nullptr);
  else if (count > 0 && group_->leads())
    state.set_step(SharedState::kNoStep);
  group_->barrier();
  group_->settled();
  return possible ? count : 0;
}

int64_t Engine::undo_piece(int64_t piece, const SharedState::Update& update) {
  // If one who completed the piece was killed, too, the log that came farthest is the last one.
  const optim::UndoLog* last = nullptr;
  for (const optim::UndoLog* log : group_->undo_logs())
    if (log->is_of(static_cast<uint32_t>(update.step), static_cast<uint32_t>(piece)) &&
        (!last || log->reached() > last->reached()))
      last = log;
  if (!last) return 0;
  const auto [from, to] = trained_[piece];
  const Updated at = updated_at(from, update.ema);
  std::vector<float*> arrays{at.weights};
  arrays.insert(arrays.end(), at.moments.begin(), at.moments.end());
  if (at.ema) arrays.push_back(at.ema);
  last->undo(to - from, arrays);
  ORCH_FAULT(mending);
  return last->reached();
}

}  // namespace orch
