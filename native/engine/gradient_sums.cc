#include "gradient_sums.h"

#include "../core/error.h"

namespace orch {

void GradientSums::begin(int64_t first, int64_t end, int64_t total, std::function<void(int)> announce) {
  if (first < 0 || first >= end || end > total)
    throw Error("ERR_INTERNAL", "Slots ", first, " to ", end, " of ", total);
  std::lock_guard order(announcing_);
  first_ = first;
  total_ = total;
  std::vector<SlotRange> slots;
  for (int64_t slot = first; slot < end; ++slot) slots.push_back({slot, slot + 1});
  additions_ = additions(slots, {first, end}, total);
  announce_ = std::move(announce);
  free_.clear();
  for (auto it = memory_.rbegin(); it != memory_.rend(); ++it) free_.push_back(it->as<float>());
  released_.clear();
  waiting_.clear();
  parts_.clear();
  parts_done_.assign(buckets_.size(), 0);
  announced_ = 0;
  for (const auto& [lo, hi] : local_subtrees(first, end, total)) parts_.push_back({lo, hi, nullptr});
}

std::vector<GradientPart> GradientSums::parts_now() {
  std::lock_guard order(announcing_);
  return parts_;
}

void GradientSums::abandon() {
  std::lock_guard order(announcing_);
  parts_.clear();
}

float* GradientSums::acquire() {
  std::lock_guard lock(mutex_);
  if (free_.empty()) {
    memory_.push_back(allocate_(static_cast<size_t>(length_) * sizeof(float)));
    return memory_.back().as<float>();
  }
  float* buffer = free_.back();
  free_.pop_back();
  return buffer;
}

void GradientSums::complete(int64_t slot, float* buffer, int bucket) {
  size_t sum = static_cast<size_t>(slot - first_);
  for (size_t next = 0;; ++next) {
    while (next < additions_.size() && additions_[next].first != sum && additions_[next].second != sum)
      ++next;
    if (next == additions_.size()) return part_done(first_ + static_cast<int64_t>(sum), buffer, bucket);
    float* other;
    {
      std::lock_guard lock(mutex_);
      auto [it, fresh] = waiting_.try_emplace({next, bucket}, buffer);
      if (fresh) return;
      other = it->second;
      waiting_.erase(it);
    }
    const size_t left = additions_[next].first;
    float* const into = sum == left ? buffer : other;
    float* const from = sum == left ? other : buffer;
    const Bucket& b = buckets_[bucket];
    device_.kernels().f32.add(into + b.offset, into + b.offset, from + b.offset, b.length);
    {
      std::lock_guard lock(mutex_);
      if (++released_[from] == buckets_.size()) {
        released_.erase(from);
        free_.push_back(from);
      }
    }
    buffer = into;
    sum = left;
  }
}

void GradientSums::part_done(int64_t lo, float* buffer, int bucket) {
  std::lock_guard order(announcing_);
  for (GradientPart& p : parts_)
    if (p.lo == lo && !p.data)
      p.data = buffer;  // written once: the event loop reads it when a bucket is announced
  ++parts_done_[bucket];
  while (announced_ < buckets_.size() && parts_done_[announced_] == parts_.size())
    announce_(static_cast<int>(announced_++));
}

}  // namespace orch
