#include "gradient_sums.h"

#include "../core/error.h"
#include "../kernels/kernels.h"

namespace orch {

bool GradientSums::local(const Node& n) const { return low(n) >= first_ && high(n) <= end_; }

void GradientSums::begin(int64_t first, int64_t end, int64_t total, std::function<void(int)> announce) {
  if (first < 0 || first >= end || end > total)
    throw Error("ERR_INTERNAL", "Slots " + std::to_string(first) + " to " + std::to_string(end) + " of " +
                                    std::to_string(total));
  std::lock_guard order(announcing_);
  first_ = first;
  end_ = end;
  total_ = total;
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
  Node node{0, slot};
  for (;;) {
    const Node parent{node.level + 1, node.index / 2};
    if (!local(parent) || (int64_t{1} << node.level) >= total_) return part_done(node, buffer, bucket);
    const Node sibling{node.level, node.index ^ 1};
    if (low(sibling) < total_) {
      Waiting other;
      {
        std::lock_guard lock(mutex_);
        auto [it, fresh] = waiting_.try_emplace({parent, bucket}, Waiting{buffer, node.index % 2 == 0});
        if (fresh) return;
        other = it->second;
        waiting_.erase(it);
      }
      float* into = other.left ? other.buffer : buffer;
      float* from = other.left ? buffer : other.buffer;
      const Bucket& b = buckets_[bucket];
      kernels::cpu().raw.add_into(into + b.offset, from + b.offset, b.length);
      {
        std::lock_guard lock(mutex_);
        if (++released_[from] == buckets_.size()) {
          released_.erase(from);
          free_.push_back(from);
        }
      }
      buffer = into;
    }
    node = parent;
  }
}

void GradientSums::part_done(const Node& n, float* buffer, int bucket) {
  std::lock_guard order(announcing_);
  for (GradientPart& p : parts_)
    if (p.lo == low(n) && !p.data)
      p.data = buffer;  // written once: the event loop reads it when a bucket is announced
  ++parts_done_[bucket];
  while (announced_ < buckets_.size() && parts_done_[announced_] == parts_.size())
    announce_(static_cast<int>(announced_++));
}

}  // namespace orch
