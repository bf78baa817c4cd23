// Sums: bias gradients, the loss, norms, and sums of gradients. The order of each depends on the shapes
// alone.
#include "../digest.h"
#include "families.h"

namespace orch::kernels::ORCH_ISA {
namespace {

/// One strip of columns, in partial sums of kRun rows each (shorter chains round less).
template <int Vectors, class T>
ORCH_INLINE void column_strip(float* db, const T* dy, int64_t rows, int64_t stride) {
  constexpr int64_t kRun = 64;
  vf total[Vectors] = {};
  for (int64_t start = 0; start < rows; start += kRun) {
    const int64_t end = min_of(start + kRun, rows);
    vf sum[Vectors] = {};
    for (int64_t r = start; r < end; ++r) {
      for (int v = 0; v < Vectors; ++v) sum[v] += load(dy + r * stride + v * kLanes);
    }
    for (int v = 0; v < Vectors; ++v) total[v] += sum[v];
  }
  for (int v = 0; v < Vectors; ++v) store(db + v * kLanes, total[v]);
}

template <class T>
void column_sum(float* db, const T* dy, int64_t rows, int64_t width, int64_t stride) {
  int64_t i = 0;
  for (; i + 8 * kLanes <= width; i += 8 * kLanes) column_strip<8>(db + i, dy + i, rows, stride);
  for (; i + kLanes <= width; i += kLanes) column_strip<1>(db + i, dy + i, rows, stride);
  if (i < width) {
    vf sum = {};
    for (int64_t r = 0; r < rows; ++r) sum += load_n(dy + r * stride + i, width - i);
    store_n(db + i, sum, width - i);
  }
}

void mse(float* loss, float* dv, const float* v, const float* target, const float* grad_scale,
         int64_t samples, int64_t n) {
  for (int64_t b = 0; b < samples; ++b) {
    const float* vb = v + b * n;
    const float* tb = target + b * n;
    vd low = {}, high = {};
    const vf factor = splat(dv ? grad_scale[b] * 2.0f / static_cast<float>(n) : 0.0f);
    each_vector(n, [&](auto at) {
      const vf e = at(vb) - at(tb);
      low += low_doubles(e) * low_doubles(e);
      high += high_doubles(e) * high_doubles(e);
      if (dv) at.put(dv + b * n, factor * e);
    });
    loss[b] = static_cast<float>((sum_lanes(low) + sum_lanes(high)) / static_cast<double>(n));
  }
}

void scale_into(float* dst, float factor, int64_t n) {
  map(dst, n, [=](auto at) { return at(dst) * splat(factor); });
}

void add_squares(double* sum, const float* x, int64_t n) {
  vd s0 = {}, s1 = {}, s2 = {}, s3 = {};
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    const vf a = load(x + i), b = load(x + i + kLanes);
    s0 += low_doubles(a) * low_doubles(a);
    s1 += high_doubles(a) * high_doubles(a);
    s2 += low_doubles(b) * low_doubles(b);
    s3 += high_doubles(b) * high_doubles(b);
  }
  double tail = 0;
  for (; i < n; ++i) tail += static_cast<double>(x[i]) * x[i];
  *sum += sum_lanes((s0 + s1) + (s2 + s3)) + tail;
}

int64_t first_non_finite(const float* x, int64_t n) {
  constexpr int64_t kStep = 8 * kLanes;
  constexpr uint32_t kExponent = 0x7f800000u;
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    vi found = {};
    for (int v = 0; v < 8; ++v) found |= (vi)((bits_of(load(x + i + v * kLanes)) & kExponent) == kExponent);
    int any = 0;
    for (int j = 0; j < kLanes; ++j) any |= found[j];
    if (any) break;
  }
  for (; i < n; ++i) {
    uint32_t u;
    std::memcpy(&u, x + i, 4);
    if ((u & kExponent) == kExponent) return i;
  }
  return -1;
}

void digest(uint64_t* lanes, const float* x, int64_t n) {
  for (int64_t piece = 0; piece < digest_pieces(n); ++piece, lanes += kDigestLanes) {
    const int64_t from = piece * kDigestPiece, words = min_of(kDigestPiece, n - from) / 2;
    uint64_t s[kDigestLanes];
    for (int j = 0; j < kDigestLanes; ++j) s[j] = digest_start(j);
    const auto word = [&](int64_t i) {
      uint64_t w;
      std::memcpy(&w, x + from + 2 * i, sizeof w);
      return w;
    };
    int64_t i = 0;
    for (; i + kDigestLanes <= words; i += kDigestLanes)
      for (int j = 0; j < kDigestLanes; ++j) s[j] = digest_step(s[j], word(i + j));
    for (int j = 0; i < words; ++i, ++j) s[j] = digest_step(s[j], word(i));
    for (int j = 0; j < kDigestLanes; ++j) lanes[j] = s[j];
  }
}

/// The words of 64 bytes side by side, each with a sum, and a sum of its sums, which depends on the order.
/// They are of 32 bits in sums of 64, so that nothing is lost.
uint64_t checksum(const void* bytes, int64_t n) {
  typedef uint64_t vw __attribute__((vector_size(4 * ORCH_LANES)));
  typedef vw vw_unaligned __attribute__((aligned(1), may_alias));
  constexpr int kBlock = 64, kVectors = kBlock / static_cast<int>(sizeof(vw));
  vw low[kVectors] = {}, high[kVectors] = {}, low_sums[kVectors] = {}, high_sums[kVectors] = {};
  const auto add = [&](const char* block) __attribute__((always_inline)) {
    for (int v = 0; v < kVectors; ++v) {
      const vw words = *reinterpret_cast<const vw_unaligned*>(block + v * sizeof(vw));
      low[v] += words & 0xffffffffu;
      high[v] += words >> 32;
      low_sums[v] += low[v];
      high_sums[v] += high[v];
    }
  };
  const char* const from = static_cast<const char*>(bytes);
  int64_t at = 0;
  for (; at + kBlock <= n; at += kBlock) add(from + at);
  if (at < n) {
    char last[kBlock] = {};
    std::memcpy(last, from + at, static_cast<size_t>(n - at));
    add(last);
  }
  uint64_t state = digest_step(digest_start(0), static_cast<uint64_t>(n));
  const vw* const all[] = {low, high, low_sums, high_sums};
  for (const vw* sums : all)
    for (int v = 0; v < kVectors; ++v)
      for (int j = 0; j < ORCH_LANES / 2; ++j) state = digest_step(state, sums[v][j]);
  return state;
}

}  // namespace

void fill_reduce(Table& t) {
  t.each_type([]<class T>(Typed<T>& k) { k.column_sum = column_sum<T>; });
  t.raw.mse = mse;
  t.raw.scale_into = scale_into;
  t.raw.add_squares = add_squares;
  t.raw.first_non_finite = first_non_finite;
  t.raw.digest = digest;
  t.raw.checksum = checksum;
}

}  // namespace orch::kernels::ORCH_ISA
