// Matrix products of bf16 operands against the plain fp64 sum.
#include "core/memory.h"
#include "kernels_support.h"

namespace orch::test {
namespace {

using kernels::MatmulDims;
using kernels::Table;

/// Sums of products, with the bias and with what C held.
Vec product(const Vec& a, const Vec& b, const Vec& bias, const Vec& before, const MatmulDims& d) {
  Vec c(d.m * d.n);
  for (int64_t i = 0; i < d.m; ++i)
    for (int64_t k = 0; k < d.k; ++k) {
      const double x = a[d.transpose_a ? k * d.m + i : i * d.k + k];
      for (int64_t j = 0; j < d.n; ++j) c[i * d.n + j] += x * b[d.transpose_b ? j * d.k + k : k * d.n + j];
    }
  for (int64_t i = 0; i < d.m * d.n; ++i)
    c[i] += (bias.empty() ? 0 : bias[i % d.n]) + (before.empty() ? 0 : before[i]);
  return c;
}

/// `offset` elements into the line: what is written past the caches needs whole lines, and must not be
/// written so elsewhere.
template <class C>
void check(const Table& t, const MatmulDims& d, bool with_bias, int64_t offset) {
  const std::string at = text(t.isa, " ", d.m, "x", d.n, "x", d.k, d.transpose_a ? " A^T" : "",
                              d.transpose_b ? " B^T" : "", d.single ? " fp32" : " bf16",
                              d.accumulate ? " accumulate" : "", with_bias ? " bias" : "", " +", offset);
  CHECK(t.matmul.fits(d), at);
  const auto a = random<bf16>(d.m * d.k, 1), b = random<bf16>(d.k * d.n, 2);
  const auto bias = random<float>(with_bias ? d.n : 0, 3),
             before = random<float>(d.accumulate ? d.m * d.n : 0, 4);
  const int64_t n = d.m * d.n;
  Buffer memory(static_cast<size_t>(offset + n + 64) * sizeof(C)), scratch(t.matmul.scratch_bytes(d));
  C* c = memory.as<C>() + offset;
  std::vector<C> first;
  for (int pass = 0; pass < 2; ++pass) {
    std::memset(memory.data(), 0xff, memory.bytes());
    std::memset(scratch.data(), 0xff, scratch.bytes());
    if (d.accumulate) std::memcpy(c, before.data(), before.size() * sizeof(float));
    // Whole, then in two pieces.
    const int64_t parts = t.matmul.parts(d), cut = pass == 0 ? parts : parts / 2;
    const float* start = with_bias ? bias.data() : nullptr;
    t.matmul.run(c, a.data(), b.data(), start, d, 0, cut, scratch.data());
    t.matmul.run(c, a.data(), b.data(), start, d, cut, parts, scratch.data());
    if (pass == 0) first.assign(c, c + n);
  }
  CHECK(std::memcmp(first.data(), c, first.size() * sizeof(C)) == 0, at,
        ": two pieces differ from the whole");
  for (int64_t i = 0; i < 64; ++i) CHECK(std::isnan(to_float(c[n + i])), at, ": written past the end");
  CHECK_CLOSE(relative(first, product(wide(a), wide(b), wide(bias), wide(before), d)),
              bound<C>(1e-6, 1.0 / 256), at);
}

TEST("kernels matmul") {
  for (const Table* t : tables()) {
    if (t->matmul.run == nullptr) continue;
    for (int64_t m : {1, 2, 3, 4, 5, 6, 7, 40, 97})
      for (auto [n, k] : {std::array<int64_t, 2>{64, 32}, {192, 64}, {128, 416}}) {
        check<bf16>(*t, {m, n, k, false, true, false, false}, true, 0);
        check<float>(*t, {m, n, k, false, true, true, false}, m % 2 == 0, 0);
        check<bf16>(*t, {m, n, k, false, false, false, false}, false, 0);
        check<float>(*t, {m, n, k, false, false, true, true}, false, 0);
      }
    // More rows than are turned at once, more than are kept, and depths that no vector divides.
    for (int64_t m : {32, 64, 96, 160, 832})
      for (auto [n, k] : {std::array<int64_t, 2>{64, 1}, {64, 2}, {128, 33}, {192, 47}, {64, 330}})
        for (int64_t offset : {0, 1}) check<float>(*t, {m, n, k, true, false, true, false}, false, offset);
    for (const MatmulDims& d : {MatmulDims{4, 65, 32, false, false, false, false},
                                {4, 64, 48, false, true, false, false},
                                {48, 64, 32, true, false, true, false},
                                {64, 64, 32, true, true, true, false}})
      CHECK(!t->matmul.fits(d), t->isa, ": takes a shape that it is not written for");
  }
}

}  // namespace
}  // namespace orch::test
