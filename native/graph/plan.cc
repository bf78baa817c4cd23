// The memory plan: places every activation in one arena so that it overlaps no other one alive at the same
// time.
#include <algorithm>

#include "../core/error.h"
#include "graph.h"

namespace orch::graph {
namespace {

constexpr size_t kAlign = 64;

/// A value's lifetime in node numbers, from its first write to its last use.
struct Life {
  int32_t value;
  int64_t first, last;
  size_t bytes;
  size_t offset;
};

/// Greedy first fit: places each value in turn at the lowest free offset. Returns the arena's bytes.
size_t place(std::vector<Life>& lives) {
  std::vector<const Life*> placed;  // sorted by offset
  size_t arena = 0;
  for (Life& l : lives) {
    l.offset = 0;
    for (const Life* p : placed) {
      if (p->last < l.first || p->first > l.last) continue;
      if (l.offset + l.bytes <= p->offset) break;
      l.offset = std::max(l.offset, p->offset + p->bytes);
    }
    placed.insert(std::upper_bound(placed.begin(), placed.end(), &l,
                                   [](const Life* a, const Life* b) { return a->offset < b->offset; }),
                  &l);
    arena = std::max(arena, l.offset + l.bytes);
  }
  return arena;
}

}  // namespace

size_t Graph::plan() {
  const auto end = static_cast<int64_t>(nodes_.size());
  const auto n = static_cast<int32_t>(values_.size());
  std::vector<int64_t> first(n, -1), last(n, -1);
  for (int64_t i = 0; i < end; ++i) {
    for (Ref r : nodes_[i].outputs)
      if (r) {
        if (first[r.index] < 0) first[r.index] = i;
        last[r.index] = i;
      }
    for (Ref r : nodes_[i].inputs)
      if (r) {
        const Value& v = values_[r.index];
        if (v.kind == Kind::Activation && first[r.index] < 0)
          throw Error("ERR_INTERNAL", "Value read before it is written: ", v.name);
        last[r.index] = i;
      }
  }
  std::vector<Life> lives(n);
  std::vector<int32_t> home(n);  // the value whose memory a value uses
  for (int32_t i = 0; i < n; ++i) {
    const Value& v = values_[i];
    home[i] = i;
    if (v.kind != Kind::Activation || first[i] < 0) continue;
    if (v.keep) last[i] = end;
    const size_t bytes = static_cast<size_t>(elements(v.shape)) * size_of(v.dtype);
    lives[i] = {i, first[i], last[i], (bytes + kAlign - 1) / kAlign * kAlign, 0};
  }
  // An output written in place extends the life of an input that is read for the last time.
  for (int64_t i = 0; i < end; ++i)
    for (size_t k = 0; k < nodes_[i].op->in_place.size(); ++k) {
      const int at = nodes_[i].op->in_place[k];
      if (at < 0 || !nodes_[i].inputs[at]) continue;
      const int32_t from = nodes_[i].inputs[at].index, to = nodes_[i].outputs[k].index;
      Life &old = lives[home[from]], &fresh = lives[to];
      if (old.bytes != fresh.bytes || last[from] != i || first[from] == i || first[to] != i) continue;
      home[to] = home[from];
      last[from] = -1;  // merged into the output
      old.last = fresh.last;
      fresh.bytes = 0;
    }
  std::erase_if(lives, [](const Life& l) { return l.bytes == 0; });

  // Tries two orders, largest first and largest (size * lifetime) first, and keeps the smaller arena.
  const auto in_order = [&](auto key) {
    std::vector<Life> sorted = lives;
    std::sort(sorted.begin(), sorted.end(), [&](const Life& a, const Life& b) {
      return key(a) != key(b) ? key(a) > key(b) : a.value < b.value;
    });
    arena_bytes_ = place(sorted);
    return sorted;
  };
  const auto by_area =
      in_order([](const Life& l) { return l.bytes * static_cast<size_t>(l.last - l.first + 1); });
  const size_t area_bytes = arena_bytes_;
  auto best = in_order([](const Life& l) { return l.bytes; });
  if (area_bytes < arena_bytes_) {
    best = by_area;
    arena_bytes_ = area_bytes;
  }
  for (const Life& l : best) values_[l.value].offset = static_cast<int64_t>(l.offset);
  for (int32_t i = 0; i < n; ++i)
    if (first[i] >= 0 && home[i] != i) values_[i].offset = values_[home[i]].offset;
  return arena_bytes_;
}

}  // namespace orch::graph
