#include "shared_state.h"

#include <random>

#include "../core/error.h"

namespace orch {

struct SharedState::Header {
  uint64_t key;
  int64_t pieces;
  std::atomic<int64_t> step;
  Update update;
};

SharedState::SharedState(int64_t pieces)
    : page_(map(sizeof(Header))), stamps_(map(static_cast<size_t>(pieces) * sizeof(uint32_t))) {
  std::random_device random;
  header().key = (uint64_t{random()} << 32) | random();
  header().pieces = pieces;
  set_step(kNoStep);
}

SharedState::SharedState(int64_t pieces, int pid, int descriptor)
    : file_(pid, descriptor), page_(map(sizeof(Header))) {
  if (header().pieces != pieces)
    throw Error("ERR_SHARED_MEMORY", "The state that is shared has ", header().pieces, " pieces, not ",
                pieces);
  stamps_ = map(static_cast<size_t>(pieces) * sizeof(uint32_t));
}

SharedState::Header& SharedState::header() const { return *page_.as<Header>(); }

uint64_t SharedState::key() const { return header().key; }

Buffer SharedState::map(size_t bytes) {
  Buffer buffer = file_.map(next_, bytes);
  next_ += SharedFile::aligned(bytes);
  return buffer;
}

int64_t SharedState::step() const { return header().step; }

void SharedState::set_step(int64_t step) {
  header().step = kNoStep;
  for (int64_t i = 0; i < header().pieces; ++i) stamp(i, step);
  header().step = step;
}

std::vector<int64_t> SharedState::torn() const {
  std::vector<int64_t> list;
  if (step() == kNoStep) return list;
  for (int64_t i = 0; i < header().pieces; ++i)
    if (stamp_of(i) != static_cast<uint32_t>(step())) list.push_back(i);
  return list;
}

const SharedState::Update& SharedState::last() const { return header().update; }

void SharedState::begin(const Update& update) {
  // Several members may write the same bytes at once. Nobody needs those before, whose update is complete.
  if (step() == update.step) return;
  header().update = update;
  header().step = update.step;
}

void SharedState::stamp(int64_t piece, int64_t step) {
  stamp_of(piece).store(static_cast<uint32_t>(step), std::memory_order_release);
}

}  // namespace orch
