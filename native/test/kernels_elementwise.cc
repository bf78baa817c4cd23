// Activation functions, conversions, patches, sums and noise.
#include "kernels_support.h"

namespace orch::test {
namespace {

using kernels::DrawKey;
using kernels::PatchDims;
using kernels::Table;

const int64_t kLengths[] = {1, 3, 16, 31, 64, 257, 1000};

/// The slopes and near-zero values of a saturating function have no relative precision: errors are relative
/// to the magnitude of the inputs.
template <class Got>
double distance(const Got& got, const Vec& want) {
  double sum = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double e = to_float(got[i]) - want[i];
    sum += e * e;
  }
  return std::sqrt(sum);
}
template <class T>
double norm(const std::vector<T>& x) {
  return distance(x, Vec(x.size()));
}

template <class T>
std::string label(const Table& t, int64_t n) {
  return text(t.isa, is_single<T> ? " fp32" : " bf16", " n ", n);
}

TEST("kernels gelu and silu") {
  for_each_kernel_set([]<class T>(const Table& t) {
    for (const int64_t n : kLengths) {
      const auto x = random<T>(n, 1, 3), dy = random<T>(n, 2);
      const auto xs = random<float>(n, 3, 3), add = random<float>(n, 4);
      const std::string at = label<T>(t, n);
      std::vector<T> y(n), dx(n), ys(n);
      std::vector<float> dxs(n);
      Vec want(n);
      run_twice("gelu", [&] { t.typed<T>().gelu(y.data(), x.data(), n); }, {bytes(y)});
      for (int64_t i = 0; i < n; ++i) want[i] = reference::gelu(to_float(x[i]));
      CHECK_CLOSE(distance(y, want) / norm(x), bound<T>(3e-7, 1.0 / 256), at);
      run_twice("gelu_backward",
                [&] { t.typed<T>().gelu_backward(dx.data(), dy.data(), x.data(), n, nullptr); }, {bytes(dx)});
      for (int64_t i = 0; i < n; ++i) want[i] = to_float(dy[i]) * reference::gelu_slope(to_float(x[i]));
      CHECK_CLOSE(distance(dx, want) / norm(dy), bound<T>(1e-6, 1.0 / 256), at);
      run_twice("silu", [&] { t.typed<T>().silu(ys.data(), xs.data(), n); }, {bytes(ys)});
      for (int64_t i = 0; i < n; ++i) want[i] = reference::silu(xs[i]);
      CHECK_CLOSE(distance(ys, want) / norm(xs), bound<T>(3e-7, 1.0 / 256), at);
      for (const bool with_add : {false, true}) {
        run_twice("silu_backward",
                  [&] {
                    t.typed<T>().silu_backward(dxs.data(), with_add ? add.data() : nullptr, dy.data(),
                                               xs.data(), n);
                  },
                  {bytes(dxs)});
        for (int64_t i = 0; i < n; ++i)
          want[i] = to_float(dy[i]) * reference::silu_slope(xs[i]) + (with_add ? add[i] : 0);
        CHECK_CLOSE(distance(dxs, want) / norm(dy), 1e-6, at);
      }
    }
  });
}

TEST("kernels gelu and silu far from zero and for NaN") {
  for_each_kernel_set([]<class T>(const Table& t) {
    const float points[] = {-1e4f, -60.0f, -10.0f, -1e-3f, -0.0f, 0.0f, 1e-3f, 10.0f, 60.0f, 1e4f, NAN};
    constexpr int64_t n = std::size(points);
    std::vector<T> x(n), y(n), one(n, narrow<T>(1)), dx(n);
    for (int64_t i = 0; i < n; ++i) x[i] = narrow<T>(points[i]);
    t.typed<T>().gelu(y.data(), x.data(), n);
    t.typed<T>().gelu_backward(dx.data(), one.data(), x.data(), n, nullptr);
    for (int64_t i = 0; i < n; ++i) {
      const double in = to_float(x[i]), got = to_float(y[i]), slope = to_float(dx[i]);
      if (std::isnan(in)) {
        CHECK(std::isnan(got) && std::isnan(slope), t.isa);
        continue;
      }
      CHECK_CLOSE(std::abs(got - reference::gelu(in)), 1e-6 + bound<T>(1e-6, 1.0 / 256) * std::abs(in), t.isa,
                  " gelu ", in);
      CHECK_CLOSE(std::abs(slope - reference::gelu_slope(in)), bound<T>(2e-6, 1.0 / 128), t.isa, " gelu' ",
                  in);
    }
    std::vector<float> xs(points, points + n), ds(n);
    t.typed<T>().silu(y.data(), xs.data(), n);
    t.typed<T>().silu_backward(ds.data(), nullptr, one.data(), xs.data(), n);
    for (int64_t i = 0; i + 1 < n; ++i) {
      CHECK_CLOSE(std::abs(to_float(y[i]) - reference::silu(xs[i])),
                  1e-6 + bound<T>(1e-6, 1.0 / 256) * std::abs(xs[i]), t.isa, " silu ", xs[i]);
      CHECK_CLOSE(std::abs(ds[i] - reference::silu_slope(xs[i])), 2e-6, t.isa, " silu' ", xs[i]);
    }
    CHECK(std::isnan(to_float(y[n - 1])) && std::isnan(ds[n - 1]), t.isa);
  });
}

TEST("kernels reference: gelu and silu against finite differences") {
  for (double x = -6; x < 6; x += 0.37) {
    constexpr double h = 1e-6;
    CHECK_CLOSE(
        std::abs((reference::gelu(x + h) - reference::gelu(x - h)) / (2 * h) - reference::gelu_slope(x)),
        1e-8);
    CHECK_CLOSE(
        std::abs((reference::silu(x + h) - reference::silu(x - h)) / (2 * h) - reference::silu_slope(x)),
        1e-8);
  }
}

TEST("kernels add and conversions") {
  for_each_kernel_set([]<class T>(const Table& t) {
    for (const int64_t n : kLengths) {
      const auto a = random<T>(n, 1), b = random<T>(n, 2);
      std::vector<T> out(n);
      run_twice("add", [&] { t.typed<T>().add(out.data(), a.data(), b.data(), n); }, {bytes(out)});
      for (int64_t i = 0; i < n; ++i) {
        CHECK(to_float(out[i]) == to_float(narrow<T>(static_cast<double>(to_float(a[i])) + to_float(b[i]))),
              label<T>(t, n));
      }
    }
    // Every upper half of a float, with the lower halves that decide the rounding: zero, just below, at and
    // above one half.
    std::vector<float> x;
    for (uint32_t high = 0; high < 65536; ++high) {
      for (const uint32_t low : {0u, 0x7fffu, 0x8000u, 0x8001u}) {
        const uint32_t u = high << 16 | low;
        float f;
        std::memcpy(&f, &u, 4);
        x.push_back(f);
      }
    }
    const int64_t n = static_cast<int64_t>(x.size());
    std::vector<T> y(n);
    std::vector<float> back(n);
    run_twice("from_f32", [&] { t.typed<T>().from_f32(y.data(), x.data(), n); }, {bytes(y)});
    run_twice("to_f32", [&] { t.typed<T>().to_f32(back.data(), y.data(), n); }, {bytes(back)});
    for (int64_t i = 0; i < n; ++i) {
      const float want = is_single<T> ? x[i] : to_float(to_bf16(x[i]));
      CHECK(std::isnan(want) ? std::isnan(back[i]) : std::memcmp(&want, &back[i], 4) == 0, t.isa, " ", x[i]);
    }
    // Every half-precision number.
    std::vector<f16> halves(65536);
    for (uint32_t h = 0; h < 65536; ++h) halves[h].bits = static_cast<uint16_t>(h);
    std::vector<T> from(65536);
    run_twice("from_f16", [&] { t.typed<T>().from_f16(from.data(), halves.data(), 65536); }, {bytes(from)});
    for (uint32_t h = 0; h < 65536; ++h) {
      const int exponent = h >> 10 & 31, mantissa = h & 1023;
      double want = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
      if (exponent == 31) want = mantissa ? NAN : INFINITY;
      if (h >> 15) want = -want;
      const float got = to_float(from[h]);
      CHECK(std::isnan(want) ? std::isnan(got) : got == to_float(narrow<T>(want)), t.isa, " half ", h);
    }
    std::vector<T> tail(5);
    t.typed<T>().from_f16(tail.data(), halves.data() + 15000, 5);
    CHECK(std::memcmp(tail.data(), from.data() + 15000, 5 * sizeof(T)) == 0, t.isa, ": a tail");
  });
}

TEST("kernels to_patches and from_patches against the formula") {
  for_each_kernel_set([]<class T>(const Table& t) {
    for (PatchDims d : {PatchDims{1, 1, 2, 2, 2}, {2, 16, 8, 8, 2}, {2, 4, 6, 10, 2}, {1, 3, 5, 7, 1}})
      for (bool channel_fastest : {false, true}) {
        d.channel_fastest = channel_fastest;
        const int64_t n = d.samples * d.channels * d.height * d.width, p = d.patch;
        const auto image = random<float>(n, 1);
        const auto rows = random<T>(n, 2);
        std::vector<T> to(n);
        std::vector<float> from(n);
        run_twice("to_patches", [&] { t.typed<T>().to_patches(to.data(), image.data(), d); }, {bytes(to)});
        run_twice("from_patches", [&] { t.typed<T>().from_patches(from.data(), rows.data(), d); },
                  {bytes(from)});
        for (int64_t i = 0; i < n; ++i) {
          const int64_t column = i % d.width, row = i / d.width % d.height,
                        c = i / (d.width * d.height) % d.channels;
          const int64_t b = i / (d.width * d.height * d.channels);
          const int64_t token = (b * (d.height / p) + row / p) * (d.width / p) + column / p, ph = row % p,
                        pw = column % p;
          const int64_t at = token * d.channels * p * p +
                             (d.channel_fastest ? (ph * p + pw) * d.channels + c : (c * p + ph) * p + pw);
          CHECK(to_float(to[at]) == to_float(narrow<T>(image[i])), t.isa);
          CHECK(from[i] == to_float(rows[at]), t.isa);
        }
      }
  });
}

TEST("kernels timestep_embedding") {
  for_each_kernel_set([]<class T>(const Table& t) {
    const std::vector<float> times = {0, 0.5f, 1, 123.456f, 1000};
    const int64_t n = static_cast<int64_t>(times.size());
    std::vector<T> out(n * 256);
    run_twice("timestep_embedding", [&] { t.typed<T>().timestep_embedding(out.data(), times.data(), n); },
              {bytes(out)});
    Vec want(n * 256);
    for (int64_t b = 0; b < n; ++b) {
      for (int i = 0; i < 128; ++i) {
        const double angle = times[b] * std::pow(10000.0, -i / 128.0);
        want[b * 256 + i] = std::cos(angle);
        want[b * 256 + 128 + i] = std::sin(angle);
      }
    }
    CHECK_CLOSE(relative(out, want), bound<T>(1e-6, 1.0 / 256), t.isa);
  });
}

TEST("kernels Philox4x32-10: the reference reproduces the published known answers") {
  const auto check = [](reference::Words counter, uint32_t k0, uint32_t k1, reference::Words want) {
    const auto got = reference::philox(counter, k0, k1);
    for (int i = 0; i < 4; ++i) CHECK(got.w[i] == want.w[i], "word ", i);
  };
  check({{0, 0, 0, 0}}, 0, 0, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}});
  check({{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}}, 0xffffffff, 0xffffffff,
        {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}});
  check({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822, 0x299f31d0,
        {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}});
}

TEST("kernels normal and mix_noise") {
  const DrawKey keys[] = {
      {0, 0, 0, 0}, {0x123456789abcdef0, 7, 99, 0xabcdef12345678}, {1, 255, 0xffffffff, 3}};
  for (const Table* t : tables()) {
    for (const DrawKey& key : keys) {
      for (const int64_t n : kLengths) {
        const Vec noise = reference::normal(key, n);
        std::vector<float> got(n);
        run_twice("normal", [&] { t->raw.normal(got.data(), key, n); }, {bytes(got)});
        CHECK_CLOSE(relative(got, noise), 1e-6, t->isa, " n ", n);
      }
      for (const int64_t n : kLengths) {  // elements of each of two samples
        DrawKey second = key;
        second.sample_id ^= 1;
        const kernels::NoiseMix mixes[] = {{0.7f, 0.3f, -1, 1, key}, {0.2f, 0.8f, 1, -0.5f, second}};
        const auto x0 = random<float>(2 * n, 1);
        std::vector<float> z(2 * n), target(2 * n);
        run_twice("mix_noise", [&] { t->raw.mix_noise(z.data(), target.data(), x0.data(), mixes, 2, n); },
                  {bytes(z), bytes(target)});
        Vec want_z, want_target;
        for (const kernels::NoiseMix& mix : mixes) {
          for (const double noise : reference::normal(mix.key, n)) {
            const double x = x0[want_z.size()];
            want_z.push_back(mix.a * x + mix.b * noise);
            want_target.push_back(mix.p * x + mix.q * noise);
          }
        }
        CHECK_CLOSE(relative(z, want_z), 1e-6, t->isa, " n ", n);
        CHECK_CLOSE(relative(target, want_target), 1e-6, t->isa, " n ", n);
      }
    }
    constexpr int64_t n = 1 << 20;
    std::vector<float> many(n);
    t->raw.normal(many.data(), {42, 1, 2, 3}, n);
    CHECK_CLOSE(relative(many, reference::normal({42, 1, 2, 3}, n)), 1e-6, t->isa);
    double mean = 0, square = 0, fourth = 0;
    for (const float x : many) {
      mean += x;
      square += static_cast<double>(x) * x;
      fourth += static_cast<double>(x) * x * x * x;
    }
    CHECK_CLOSE(std::abs(mean / n), 0.005, t->isa);
    CHECK_CLOSE(std::abs(square / n - 1), 0.007, t->isa);
    CHECK_CLOSE(std::abs(fourth / n - 3), 0.05, t->isa);
  }
}

TEST("kernels of another instruction set, while nothing depends on the ones before") {
  const Table* before = &kernels::cpu();
  for (const char* isa : kernels::cpu_names()) {
    kernels::use_cpu(isa);
    CHECK(&kernels::cpu() == kernels::cpu_named(isa), isa);
  }
  const Table* plainest = &kernels::cpu();
  check_throws("ERR_ISA", "but this processor has ", [] { kernels::use_cpu("no such set"); });
  {
    const kernels::CpuUse use, another;
    kernels::use_cpu(plainest->isa);
    if (before != plainest)
      check_throws("ERR_INTERNAL", "while an engine is open", [&] { kernels::use_cpu(before->isa); });
    CHECK(&kernels::cpu() == plainest);
  }
  kernels::use_cpu(before->isa);
  CHECK(&kernels::cpu() == before);
}

TEST("kernels dispatch") {
  CHECK(!kernels::cpu_names().empty());
  CHECK(kernels::cpu_named("no such set") == nullptr);
  for (const Table* t : tables()) {
    const bool chosen = kernels::cpu_named(t->isa) == t;
    CHECK(chosen != (t == &kernels::cuda::table() || std::string(t->isa).find("_on_") != std::string::npos),
          t->isa);
    const auto* entries = reinterpret_cast<void* const*>(&t->f32);  // every entry of the table is set
    for (size_t i = 0; i < (sizeof t->f32 + sizeof t->b16 + sizeof t->mixed + sizeof t->raw) / sizeof(void*);
         ++i) {
      // On the CPU alone, a state that processes share is updated, and checksums of messages are computed; on
      // devices alone, 8-bit floats.
      const auto* entry = reinterpret_cast<const optim::LoggedUpdateKernel*>(entries + i);
      const auto& logged = t->raw.logged_update;
      const auto is = [&](const auto& of_table) {
        return entries + i == reinterpret_cast<void* const*>(&of_table);
      };
      const bool on_device = t == &kernels::cuda::table();
      const bool absent =
          on_device ? (entry >= std::begin(logged) && entry < std::end(logged)) || is(t->raw.checksum)
                    : is(t->raw.quantize) || is(t->raw.quantize_gelu);
      CHECK((entries[i] == nullptr) == absent, t->isa, " entry ", i);
    }
    for (const kernels::Matmul* m : {&t->matmul_f32, &t->matmul_b16}) {
      const bool filled = m->scratch_bytes && m->parts && m->grain && m->run;
      CHECK(filled == (t != &kernels::cuda::table()), t->isa, ": matmul");
    }
  }
}

}  // namespace
}  // namespace orch::test
