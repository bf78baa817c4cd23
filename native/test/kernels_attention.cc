// Joint attention, forward and backward.
#include "kernels_support.h"

namespace orch::test {
namespace {

using kernels::AttentionDims;
using kernels::AttentionStats;
using kernels::Table;

// samples, heads, tokens, first_query, split
const AttentionDims kShapes[] = {{1, 1, 1, 0, 0},    {2, 1, 7, 0, 3},    {1, 2, 7, 3, 3},    {2, 3, 24, 0, 8},
                                 {2, 3, 24, 8, 8},   {1, 2, 33, 0, 33},  {1, 3, 33, 1, 16},  {1, 2, 64, 0, 0},
                                 {1, 1, 65, 64, 32}, {1, 1, 100, 0, 36}, {1, 1, 333, 77, 77}};

/// Scratch of exactly the promised size and alignment.
struct Scratch {
  explicit Scratch(size_t n) : size(n), memory(std::aligned_alloc(64, (n + 63) / 64 * 64)) {}
  ~Scratch() { std::free(memory); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  size_t size;
  void* memory;
};

/// Converts rows between the arrays of the two streams and one joint array [samples, tokens, width].
template <class T>
void to_streams(const std::vector<T>& joint, std::vector<T>& a0, std::vector<T>& a1, const AttentionDims& d) {
  const int64_t width = d.heads * 64;
  a0.clear();
  a1.clear();
  for (int64_t r = 0; r < d.samples * d.tokens; ++r) {
    auto& to = r % d.tokens < d.split ? a0 : a1;
    to.insert(to.end(), joint.begin() + r * width, joint.begin() + (r + 1) * width);
  }
}

template <class T>
void run_case(const Table& t, const AttentionDims& d, double spread) {
  const int64_t n = d.samples * d.heads * d.tokens * 64, width = d.heads * 64;
  const std::string at =
      text(t.isa, is_single<T> ? " fp32" : " bf16", " heads ", d.heads, " tokens ", d.tokens, " first_query ",
           d.first_query, " split ", d.split, " spread ", spread);
  const auto q = random<T>(n, 1, spread), k = random<T>(n, 2), v = random<T>(n, 3), dout = random<T>(n, 4);
  const Vec wq = wide(q), wk = wide(k), wv = wide(v);
  const auto want = reference::attention(wq, wk, wv, d);
  const int64_t rows0 = d.samples * d.split, rows1 = d.samples * (d.tokens - d.split);
  std::vector<T> out0(rows0 * width), out1(rows1 * width);
  std::vector<float> lse(d.samples * d.heads * d.tokens);
  std::vector<AttentionStats> stats(1);
  const Scratch scratch(t.typed<T>().attention_scratch_bytes(d));
  const Bytes scratch_bytes{scratch.memory, scratch.size};
  T* first = d.first_query >= d.split ? nullptr : out0.data();
  run_twice(
      "attention",
      [&] {
        t.typed<T>().attention({first, out1.data()}, lse.data(), stats.data(), q.data(), k.data(), v.data(),
                               d, scratch.memory);
      },
      {bytes(out0),
       bytes(out1),
       bytes(lse),
       {&stats[0].streams[0].max_abs_logit, sizeof(float)},
       {&stats[0].streams[0].entropy_sum, 16},
       {&stats[0].streams[1].max_abs_logit, sizeof(float)},
       {&stats[0].streams[1].entropy_sum, 16}},
      scratch_bytes);

  // Computed joint rows against the reference; the others must not have been written.
  Vec got, expected, got_lse, expected_lse;
  std::vector<double> got_joint(n);
  for (int64_t b = 0; b < d.samples; ++b) {
    for (int64_t s = 0; s < d.tokens; ++s) {
      const T* row = s < d.split ? &out0[(b * d.split + s) * width]
                                 : &out1[(b * (d.tokens - d.split) + s - d.split) * width];
      for (int64_t i = 0; i < width; ++i) {
        if (s >= d.first_query) {
          got.push_back(to_float(row[i]));
          expected.push_back(want.out[(b * d.tokens + s) * width + i]);
        } else {
          CHECK(std::isnan(to_float(row[i])), at, ": wrote row ", s);
        }
      }
      for (int64_t h = 0; h < d.heads && s >= d.first_query; ++h) {
        got_lse.push_back(lse[(b * d.heads + h) * d.tokens + s]);
        expected_lse.push_back(want.lse[(b * d.heads + h) * d.tokens + s]);
      }
    }
  }
  CHECK_CLOSE(relative(got, expected), bound<T>(1e-6, 1.0 / 256), at);
  CHECK_CLOSE(relative(got_lse, expected_lse), 1e-6, at);
  for (int stream : {0, 1}) {
    const kernels::StreamStats& of = stats[0].streams[stream];
    const int64_t from = stream == 0 ? d.first_query : std::max(d.first_query, d.split),
                  rows =
                      d.samples * d.heads * std::max<int64_t>(0, (stream == 0 ? d.split : d.tokens) - from);
    const std::string where = at + " stream " + std::to_string(stream);
    CHECK(of.rows == rows, where, ": ", of.rows, " rows");
    CHECK_CLOSE(std::abs(of.max_abs_logit - want.max_abs_logit[stream]), 1e-6 * want.max_abs_logit[stream],
                where);
    CHECK_CLOSE(std::abs(of.entropy_sum - want.entropy_sum[stream]), 1e-5 * static_cast<double>(rows), where);
  }

  const auto with_stats = out1;
  t.typed<T>().attention({first, out1.data()}, lse.data(), nullptr, q.data(), k.data(), v.data(), d,
                         scratch.memory);
  CHECK(out1.empty() || std::memcmp(with_stats.data(), out1.data(), out1.size() * sizeof(T)) == 0, at,
        ": statistics change the result");

  std::vector<T> dout0, dout1, dq(n), dk(n), dv(n);
  to_streams(dout, dout0, dout1, d);
  run_twice(
      "attention_backward",
      [&] {
        t.typed<T>().attention_backward(dq.data(), dk.data(), dv.data(),
                                        {first ? dout0.data() : nullptr, dout1.data()}, {first, out1.data()},
                                        lse.data(), q.data(), k.data(), v.data(), d, scratch.memory);
      },
      {bytes(dq), bytes(dk), bytes(dv)}, scratch_bytes);
  const auto grad = reference::attention_backward(wide(dout), wq, wk, wv, d);
  Vec got_dq, expected_dq;
  for (int64_t i = 0; i < n; ++i) {
    if (i / 64 % d.tokens >= d.first_query) {
      got_dq.push_back(to_float(dq[i]));
      expected_dq.push_back(grad.dq[i]);
    } else {
      CHECK(std::isnan(to_float(dq[i])), at, ": wrote dq of an unused row");
    }
  }
  if (d.tokens > 1) {  // with one token, its probability is 1 whatever q and k are
    CHECK_CLOSE(relative(got_dq, expected_dq), bound<T>(3e-6, 1.0 / 100), at);
    CHECK_CLOSE(relative(dk, grad.dk), bound<T>(3e-6, 1.0 / 100), at);
  }
  CHECK_CLOSE(relative(dv, grad.dv), bound<T>(2e-6, 1.0 / 200), at);
}

TEST("kernels attention") {
  for_each_kernel_set([]<class T>(const Table& t) {
    for (const AttentionDims& d : kShapes) run_case<T>(t, d, 1.0);
    run_case<T>(t, {1, 2, 41, 0, 9}, 12.0);  // large differences between logits: softmax near one-hot
  });
}

TEST("kernels attention: statistics keep the streams of the queries apart") {
  for_each_kernel_set([]<class T>(const Table& t) {
    // The split lies within a block of queries. Those of the second stream are 100 times as large, so their
    // logits are, and their rows nearly one-hot.
    const AttentionDims d{2, 2, 140, 0, 37};
    const int64_t n = d.samples * d.heads * d.tokens * 64;
    auto q = random<T>(n, 1, 0.1);
    const auto k = random<T>(n, 2), v = random<T>(n, 3);
    for (int64_t i = 0; i < n; ++i)
      if (i / 64 % d.tokens >= d.split) q[i] = narrow<T>(100 * to_float(q[i]));
    std::vector<T> out0(n), out1(n);
    std::vector<float> lse(d.samples * d.heads * d.tokens);
    AttentionStats stats;
    const Scratch scratch(t.typed<T>().attention_scratch_bytes(d));
    t.typed<T>().attention({out0.data(), out1.data()}, lse.data(), &stats, q.data(), k.data(), v.data(), d,
                           scratch.memory);
    const auto& [text_side, image] = stats.streams;
    CHECK(text_side.rows == 4 * 37 && image.rows == 4 * 103, t.isa);
    CHECK(image.max_abs_logit > 30 * text_side.max_abs_logit && text_side.max_abs_logit > 0, t.isa, ": ",
          text_side.max_abs_logit, " and ", image.max_abs_logit);
    const double flat = text_side.entropy_sum / static_cast<double>(text_side.rows),
                 sharp = image.entropy_sum / static_cast<double>(image.rows);
    CHECK(flat > 0.95 * std::log(140.0) && sharp < 0.5 * flat && sharp > 0, t.isa, ": ", flat, " and ",
          sharp);
  });
}

TEST("kernels attention: instruction sets agree for many tokens") {
  if (std::getenv("ORCHESTRATOR_TEST_SMALL") != nullptr)
    return skip("ORCHESTRATOR_TEST_SMALL: a large shape");
  // Too large for the fp64 reference; the generic fp32 kernel, tested against it above, takes its place.
  const AttentionDims d{1, 1, 1178, 77, 154};
  const int64_t n = d.tokens * 64;
  const auto run = [&]<class T>(const Table& t, T) {
    const auto q = random<bf16>(n, 1), k = random<bf16>(n, 2), v = random<bf16>(n, 3), g = random<bf16>(n, 4);
    const auto as = [](const std::vector<bf16>& x) {
      std::vector<T> y;
      for (const bf16 e : x) y.push_back(narrow<T>(to_float(e)));
      return y;
    };
    const auto qt = as(q), kt = as(k), vt = as(v), gt = as(g);
    std::vector<T> out0(d.split * 64), out1((d.tokens - d.split) * 64), dout0, dout1, dq(n), dk(n), dv(n);
    to_streams(gt, dout0, dout1, d);
    std::vector<float> lse(d.tokens);
    const Scratch scratch(t.typed<T>().attention_scratch_bytes(d));
    t.typed<T>().attention({out0.data(), out1.data()}, lse.data(), nullptr, qt.data(), kt.data(), vt.data(),
                           d, scratch.memory);
    t.typed<T>().attention_backward(dq.data(), dk.data(), dv.data(), {dout0.data(), dout1.data()},
                                    {out0.data(), out1.data()}, lse.data(), qt.data(), kt.data(), vt.data(),
                                    d, scratch.memory);
    std::vector<Vec> results;
    for (const auto* x : {&out1, &dk, &dv}) results.push_back(wide(*x));
    Vec queries = wide(dq);
    queries.erase(queries.begin(), queries.begin() + d.first_query * 64);
    results.push_back(std::move(queries));
    return results;
  };
  const auto want = run(*kernels::cpu_named(kernels::cpu_names().back()), float{});
  for_each_kernel_set([&]<class T>(const Table& t) {
    const auto got = run(t, T{});
    for (size_t i = 0; i < got.size(); ++i) {
      CHECK_CLOSE(relative(got[i], want[i]), bound<T>(3e-6, 1.0 / 100), t.isa,
                  is_single<T> ? " fp32" : " bf16", " result ", i);
    }
  });
}

TEST("kernels attention: logits of any size stay finite") {
  for_each_kernel_set([]<class T>(const Table& t) {
    const AttentionDims d{1, 1, 19, 0, 5};
    const int64_t n = d.tokens * 64;
    const auto q = random<T>(n, 1, 1000), k = random<T>(n, 2, 1000), v = random<T>(n, 3);
    std::vector<T> out0(d.split * 64), out1((d.tokens - d.split) * 64);
    std::vector<float> lse(d.tokens);
    AttentionStats stats;
    const Scratch scratch(t.typed<T>().attention_scratch_bytes(d));
    t.typed<T>().attention({out0.data(), out1.data()}, lse.data(), &stats, q.data(), k.data(), v.data(), d,
                           scratch.memory);
    const auto want = reference::attention(wide(q), wide(k), wide(v), d);
    Vec got = wide(out0);
    for (const T& x : out1) got.push_back(to_float(x));
    CHECK_CLOSE(relative(got, want.out), bound<T>(1e-4, 1.0 / 256), t.isa);
  });
}

TEST("kernels attention: a NaN in q, k or v reaches the result") {
  for_each_kernel_set([]<class T>(const Table& t) {
    const AttentionDims d{1, 1, 24, 0, 8};
    const int64_t n = d.tokens * 64;
    for (int which = 0; which < 3; ++which) {
      auto q = random<T>(n, 1), k = random<T>(n, 2), v = random<T>(n, 3);
      (which == 0 ? q : which == 1 ? k : v)[20 * 64 + 5] = narrow<T>(NAN);
      std::vector<T> out0(d.split * 64), out1((d.tokens - d.split) * 64);
      std::vector<float> lse(d.tokens);
      AttentionStats stats;
      const Scratch scratch(t.typed<T>().attention_scratch_bytes(d));
      t.typed<T>().attention({out0.data(), out1.data()}, lse.data(), &stats, q.data(), k.data(), v.data(), d,
                             scratch.memory);
      int seen = 0;
      for (const T& x : out1) seen += std::isnan(to_float(x));
      CHECK(seen > 0, t.isa, " input ", which);
    }
  });
}

TEST("kernels reference: attention against finite differences") {
  const AttentionDims d{1, 2, 5, 2, 3};
  const int64_t n = d.heads * d.tokens * 64;
  Vec q = wide(random<float>(n, 1)), k = wide(random<float>(n, 2)), v = wide(random<float>(n, 3));
  const Vec w = wide(random<float>(n, 4));
  const auto grad = reference::attention_backward(w, q, k, v, d);
  const auto loss = [&] { return dot(w, reference::attention(q, k, v, d).out); };
  check_differences("dq", q, grad.dq, loss);
  check_differences("dk", k, grad.dk, loss);
  check_differences("dv", v, grad.dv, loss);
}

}  // namespace
}  // namespace orch::test
