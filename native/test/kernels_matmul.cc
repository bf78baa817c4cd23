// Matrix products against the plain fp64 sum.
#include <array>
#include <map>

#include "core/memory.h"
#include "kernels_support.h"

namespace orch::test {
namespace {

using kernels::MatmulSpec;
using kernels::Table;

/// Sums of products, plus the bias and the previous contents of C.
Vec product(const Vec& a, const Vec& b, const Vec& bias, const Vec& before, const MatmulSpec& d) {
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

struct Case {
  int64_t m, n, k;
  bool transpose_a, transpose_b, accumulate;
};

/// `offset` elements into a cache line: non-temporal stores need whole lines and must not be used otherwise.
template <class T, class C>
void check(const Table& t, const Case& of, bool with_bias, int64_t offset = 0) {
  constexpr DType type = dtype_of<T>::value, type_of_c = dtype_of<C>::value;
  const MatmulSpec d{of.m,      of.n,           of.k,           type,      type,
                     type_of_c, of.transpose_a, of.transpose_b, with_bias, of.accumulate};
  const kernels::Matmul& matmul = t.matmul_of(type);
  const std::string at =
      text(t.isa, is_single<T> ? " fp32 " : " bf16 ", d.m, "x", d.n, "x", d.k, d.transpose_a ? " A^T" : "",
           d.transpose_b ? " B^T" : "", d.c == DType::F32 ? " to fp32" : " to bf16",
           d.accumulate ? " accumulate" : "", with_bias ? " bias" : "", " +", offset);
  // Operands end at the end of their memory, so that AddressSanitizer finds reads past them.
  const auto a = random<T>(d.m * d.k, 1), b = random<T>(d.k * d.n, 2);
  const auto bias = random<float>(with_bias ? d.n : 0, 3),
             before = random<float>(d.accumulate ? d.m * d.n : 0, 4);
  const int64_t n = d.m * d.n;
  Buffer memory(static_cast<size_t>(offset + n + 64) * sizeof(C)), scratch(matmul.scratch_bytes(d));
  C* c = memory.as<C>() + offset;
  std::vector<C> first;
  for (int pass = 0; pass < 3; ++pass) {
    std::memset(memory.data(), 0xff, memory.bytes());
    std::memset(scratch.data(), 0xff, scratch.bytes());
    if (d.accumulate) std::memcpy(c, before.data(), before.size() * sizeof(float));
    // As a whole; in two pieces; part by part, the last one first.
    const int64_t parts = matmul.parts(d);
    const float* start = with_bias ? bias.data() : nullptr;
    const auto run = [&](int64_t from, int64_t to) {
      matmul.run(c, a.data(), b.data(), start, d, from, to, scratch.data());
    };
    if (pass == 0) {
      run(0, parts);
      first.assign(c, c + n);
    } else if (pass == 1) {
      run(0, parts / 2);
      run(parts / 2, parts);
    } else {
      for (int64_t i = parts - 1; i >= 0; --i) run(i, i + 1);
    }
    CHECK(std::memcmp(first.data(), c, first.size() * sizeof(C)) == 0, at, ": pieces differ from the whole");
  }
  for (int64_t i = 0; i < 64; ++i) CHECK(std::isnan(to_float(c[n + i])), at, ": written past the end");
  // Every instruction set has the same operands, and this takes longer than they do.
  static std::map<std::array<int64_t, 7>, Vec> products;
  Vec& wanted = products[{d.m, d.n, d.k, d.transpose_a, d.transpose_b, d.accumulate, with_bias}];
  if (wanted.empty()) wanted = product(wide(a), wide(b), wide(bias), wide(before), d);
  CHECK_CLOSE(relative(first, wanted), bound<C>(1e-6, 1.0 / 256) * std::sqrt(std::max(1.0, d.k / 1024.0)),
              at);
}

/// All storage orders of the operands, and all uses of C.
template <class T>
void check_all(const Table& t, int64_t m, int64_t n, int64_t k) {
  for (bool transpose_a : {false, true})
    for (bool transpose_b : {false, true}) {
      check<T, float>(t, {m, n, k, transpose_a, transpose_b, false}, m % 2 == 0);
      check<T, float>(t, {m, n, k, transpose_a, transpose_b, true}, m % 2 == 1);
      check<T, bf16>(t, {m, n, k, transpose_a, transpose_b, false}, m % 3 == 0);
    }
}

template <class T>
void check_shapes(const Table& t) {
  for (int64_t m : {1, 2, 3, 4, 5, 6, 7, 40, 97})
    for (auto [n, k] : {std::array<int64_t, 2>{64, 32}, {192, 64}, {128, 416}}) check_all<T>(t, m, n, k);
  // Sizes that no vector, panel, part or pair divides.
  for (auto [m, n, k] : {std::array<int64_t, 3>{1, 1, 1},
                         {5, 3, 2},
                         {7, 17, 31},
                         {33, 65, 33},
                         {97, 127, 63},
                         {2, 200, 47},
                         {200, 2, 47},
                         {13, 4, 4096}})
    check_all<T>(t, m, n, k);
  // More rows than are packed at once, more than are kept, and more depth than one pass has.
  for (int64_t m : {32, 96, 160, 832, 1601})
    for (auto [n, k] : {std::array<int64_t, 2>{64, 1}, {64, 2}, {128, 33}, {192, 47}, {64, 330}})
      for (int64_t offset : {0, 1}) check<T, float>(t, {m, n, k, true, false, false}, false, offset);
  for (int64_t k : {512, 513, 1024, 1025, 2100}) check_all<T>(t, 8, 72, k);
  // Most of the work is here: on an emulated processor, one variant stands for all.
  for (auto [m, n, k] : {std::array<int64_t, 3>{800, 40, 2101}, {1537, 16, 1025}}) {
    if (std::getenv("ORCHESTRATOR_TEST_SMALL") != nullptr)
      check<T, float>(t, {m, n, k, false, true, true}, true);
    else
      check_all<T>(t, m, n, k);
  }
}

TEST("kernels matmul") {
  for (const Table* t : tables()) {
    if (t->matmul_f32.run == nullptr) continue;  // a device's table
    check_shapes<float>(*t);
    check_shapes<bf16>(*t);
  }
}

}  // namespace
}  // namespace orch::test
