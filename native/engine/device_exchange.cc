#include "device_exchange.h"

#include <algorithm>
#include <limits>

#include "../core/error.h"

namespace orch {

using graph::Transport;

namespace {
constexpr int64_t kLine = 32;  // elements of a cache line of the device: ranges are aligned to it
}

DeviceExchange::DeviceExchange(graph::Device& device, int rank, const std::vector<SlotRange>& slots,
                               const std::vector<Bucket>& buckets, size_t scratch_bytes)
    : device_(device), rank_(rank), ranks_(static_cast<int64_t>(slots.size())) {
  if (rank < 0 || rank >= ranks_) throw Error("ERR_EXCHANGE", "Rank ", rank, " of ", ranks_);
  size_t fewest = SIZE_MAX;
  for (const SlotRange& s : slots) {
    first_.push_back(parts_.size());
    for (const SlotRange& part : local_subtrees(s.lo, s.hi, slots.back().hi)) parts_.push_back(part);
    fewest = std::min(fewest, parts_.size() - first_.back());
  }
  first_.push_back(parts_.size());
  additions_ = additions(parts_, {0, slots.back().hi}, slots.back().hi);
  if (ranks_ == 1) return;

  // The pieces are the same on every rank: what fits the rank that receives the most parts.
  const int64_t most_received = static_cast<int64_t>(parts_.size() - fewest);
  const int64_t fits = static_cast<int64_t>(scratch_bytes / sizeof(float)) / most_received;
  const int64_t most = std::max(fits / kLine, ranks_) * kLine;
  int64_t at = 0, length = 0;
  for (const Bucket& b : buckets) {
    length = b.offset + b.length;
    while (length - at >= ranks_ * kLine) {
      const int64_t each = std::min(most, (length - at) / ranks_ / kLine * kLine);
      pieces_.push_back({at, each, each});
      at += each * ranks_;
    }
  }
  if (at < length) pieces_.push_back({at, 0, length - at});
  for (const Piece& p : pieces_) most_elements_ = std::max(most_elements_, p.elements);
}

template <class F>
void DeviceExchange::naming_rank(const F& f) {
  try {
    f();
  } catch (const Error& e) {
    throw Error(e.code(), "The exchange of rank ", rank_, " of ", ranks_, " broke: ", e.what());
  }
}

void DeviceExchange::connect(const std::string& leader) {
  if (connected()) throw Error("ERR_INTERNAL", "The exchange is already connected");
  const size_t received = (parts_.size() - own_parts()) * static_cast<size_t>(most_elements_);
  if (ranks_ > 1) scratch_ = device_.allocate(received * sizeof(float));
  naming_rank([&] {
    {
      std::lock_guard lock(mutex_);
      if (aborted_) throw Error("ERR_EXCHANGE", "The exchange was closed");
      transport_ = device_.connect(leader, rank_, static_cast<int>(ranks_));
    }
    transport_->wait();
  });
}

void DeviceExchange::abort() {
  std::lock_guard lock(mutex_);
  aborted_ = true;
  if (transport_) transport_->abort();
}

bool DeviceExchange::covers(const SlotRange& slots, int64_t total) const {
  return parts_[first_[rank_]].lo == slots.lo && parts_[first_[rank_ + 1] - 1].hi == slots.hi &&
         parts_.back().hi == total;
}

float* DeviceExchange::part(size_t index, const Piece& piece, const std::vector<GradientPart>& own) const {
  const size_t from = first_[rank_], to = first_[rank_ + 1];
  if (index >= from && index < to) return own[index - from].data + start(piece);
  const size_t place = index < from ? index : index - own_parts();
  return scratch_.as<float>() + static_cast<int64_t>(place) * most_elements_;
}

void DeviceExchange::exchange(const Piece& p, const std::vector<GradientPart>& own) {
  std::vector<Transport::Transfer> transfers;
  for (int peer = 0; peer < ranks_; ++peer) {
    if (peer == rank_) continue;
    for (const auto& mine : own)
      transfers.push_back({Transport::Transfer::Send, peer, mine.data + p.at + p.stride * peer, p.elements});
    for (size_t i = first_[peer]; i < first_[peer + 1]; ++i)
      transfers.push_back({Transport::Transfer::Receive, peer, part(i, p, own), p.elements});
  }
  transport_->send_receive(transfers);
  for (const auto& pair : additions_) {
    float* const left = part(pair.first, p, own);
    // The root's sum overwrites this rank's first part, which is no longer needed then.
    float* const to = &pair == &additions_.back() ? own[0].data + start(p) : left;
    transport_->add(to, left, part(pair.second, p, own), p.elements);
  }
  if (p.stride > 0) transport_->all_gather(own[0].data + p.at, p.elements);
}

void DeviceExchange::advance(const std::vector<GradientPart>& own, int64_t until) {
  if (!connected()) throw Error("ERR_INTERNAL", "The exchange is not connected");
  const bool same =
      std::equal(own.begin(), own.end(), parts_.begin() + first_[rank_], parts_.begin() + first_[rank_ + 1],
                 [](const auto& a, const SlotRange& b) { return a.lo == b.lo && a.hi == b.hi; });
  if (!same) throw Error("ERR_INTERNAL", "The sums are not those over the slots of rank ", rank_);

  const auto ready = [&] { return next_ < pieces_.size() && end(pieces_[next_]) <= until; };
  if (!ready()) return;
  naming_rank([&] {
    transport_->wait_for_compute_stream();
    while (ready()) exchange(pieces_[next_++], own);
  });
}

int64_t DeviceExchange::sum(const std::vector<GradientPart>& own) {
  advance(own, std::numeric_limits<int64_t>::max());
  naming_rank([&] {
    transport_->make_compute_stream_wait();
    transport_->wait();
  });
  next_ = 0;
  int64_t elements = 0;
  for (const Piece& p : pieces_)
    elements +=
        p.elements * (static_cast<int64_t>(parts_.size() - own_parts()) + (p.stride > 0 ? ranks_ - 1 : 0));
  return elements * static_cast<int64_t>(sizeof(float));
}

}  // namespace orch
