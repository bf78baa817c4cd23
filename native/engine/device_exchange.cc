#include "device_exchange.h"

#include <algorithm>

#include "../core/error.h"

namespace orch {

using graph::Transport;

namespace {
constexpr int64_t kLine = 32;  // elements of a cache line of the device: ranges are aligned to it
}

DeviceExchange::DeviceExchange(graph::Device& device, int rank, const std::vector<SlotRange>& slots,
                               int64_t length, size_t scratch_bytes)
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

  // The piece size is the same on every rank: what fits the rank that receives the most parts.
  const int64_t most_received = static_cast<int64_t>(parts_.size() - fewest);
  const int64_t fits = static_cast<int64_t>(scratch_bytes / (2 * sizeof(float))) / most_received;
  most_elements_ = std::max(std::min(fits, length / ranks_) / kLine, ranks_) * kLine;
  for (int64_t at = 0; at < length;) {
    const int64_t each = std::min(most_elements_, (length - at) / ranks_ / kLine * kLine);
    pieces_.push_back(each > 0 ? Piece{at, each, each} : Piece{at, 0, length - at});
    at += each > 0 ? each * ranks_ : length - at;
  }
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
  if (ranks_ > 1)
    for (auto& s : scratch_) s = device_.allocate(received * sizeof(float));
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

float* DeviceExchange::part(size_t index, size_t piece, const std::vector<GradientPart>& own) const {
  const size_t from = first_[rank_], to = first_[rank_ + 1];
  if (index >= from && index < to) return own[index - from].data + start(piece);
  const size_t place = index < from ? index : index - own_parts();
  return scratch_[piece % 2].as<float>() + static_cast<int64_t>(place) * most_elements_;
}

void DeviceExchange::send_receive(size_t piece, const std::vector<GradientPart>& own) {
  const Piece& p = pieces_[piece];
  std::vector<Transport::Transfer> transfers;
  for (int peer = 0; peer < ranks_; ++peer) {
    if (peer == rank_) continue;
    for (const auto& mine : own)
      transfers.push_back({Transport::Transfer::Send, peer, mine.data + p.at + p.stride * peer, p.elements});
    for (size_t i = first_[peer]; i < first_[peer + 1]; ++i)
      transfers.push_back({Transport::Transfer::Receive, peer, part(i, piece, own), p.elements});
  }
  transport_->send_receive(transfers);
}

void DeviceExchange::add(size_t piece, const std::vector<GradientPart>& own) {
  for (const auto& pair : additions_) {
    float* const left = part(pair.first, piece, own);
    // The root's sum overwrites this rank's first part, which is no longer needed then.
    float* const to = &pair == &additions_.back() ? own[0].data + start(piece) : left;
    device_.kernels().f32.add(to, left, part(pair.second, piece, own), pieces_[piece].elements);
  }
}

int64_t DeviceExchange::sum(const std::vector<GradientPart>& own) {
  if (!connected()) throw Error("ERR_INTERNAL", "The exchange is not connected");
  const bool same =
      std::equal(own.begin(), own.end(), parts_.begin() + first_[rank_], parts_.begin() + first_[rank_ + 1],
                 [](const auto& a, const SlotRange& b) { return a.lo == b.lo && a.hi == b.hi; });
  if (!same) throw Error("ERR_INTERNAL", "The sums are not those over the slots of rank ", rank_);

  naming_rank([&] {
    transport_->wait_for_compute_stream();
    for (size_t i = 0; i <= pieces_.size(); ++i) {
      if (i > 0) transport_->make_compute_stream_wait();
      if (i < pieces_.size()) send_receive(i, own);
      if (i == 0) continue;
      add(i - 1, own);
      transport_->wait_for_compute_stream();
      const Piece& p = pieces_[i - 1];
      if (p.stride > 0) transport_->all_gather(own[0].data + p.at, p.elements);
    }
    transport_->make_compute_stream_wait();
    transport_->wait();
  });
  int64_t elements = 0;
  for (const Piece& p : pieces_)
    elements +=
        p.elements * (static_cast<int64_t>(parts_.size() - own_parts()) + (p.stride > 0 ? ranks_ - 1 : 0));
  return elements * static_cast<int64_t>(sizeof(float));
}

}  // namespace orch
