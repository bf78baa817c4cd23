// The functions of core/elementary.h: their bits against a table computed with mpmath
// (test/fixtures/elementary), the values that a run derives from them likewise, and their distance from long
// double results.
#include "core/elementary.h"

#include <sys/stat.h>

#include <cfloat>
#include <cstdlib>
#include <fstream>
#include <map>
#include <random>

#include "engine/engine.h"
#include "kernels/cuda/emulated/emulated_device.h"
#include "kernels_support.h"

namespace orch::test {
namespace {

using elementary::from_bits;
using elementary::to_bits;

struct Line {
  std::string name;
  std::vector<std::string> arguments, results;
  double number(size_t i) const { return from_bits(std::stoull(arguments.at(i), nullptr, 16)); }
  int64_t whole(size_t i) const { return static_cast<int64_t>(number(i)); }
  uint64_t bits(size_t i) const { return std::stoull(results.at(i), nullptr, 16); }
  std::string place() const {
    std::string s = name;
    for (const std::string& a : arguments) s += " " + a;
    return s;
  }
};

std::vector<Line> read_table() {
  std::string path;
  if (const char* given = std::getenv("ORCHESTRATOR_FIXTURES"))
    path = std::string(given) + "/../elementary/table.txt";
  else
    for (const char* up : {"", "../"}) {
      struct stat s;
      const std::string at = std::string(up) + "test/fixtures/elementary/table.txt";
      if (stat(at.c_str(), &s) == 0) path = at;
    }
  std::vector<Line> lines;
  std::ifstream file(path);
  for (std::string text; std::getline(file, text);) {
    if (text.empty() || text[0] == '#') continue;
    std::istringstream words(text);
    Line line;
    words >> line.name;
    bool results = false;
    for (std::string word; words >> word;) {
      if (word == "=")
        results = true;
      else
        (results ? line.results : line.arguments).push_back(word);
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

/// Checks the lines of a name and returns their number.
int check(const std::vector<Line>& table, const std::string& name,
          const std::function<void(const Line&)>& one) {
  int count = 0;
  for (const Line& line : table)
    if (line.name == name) {
      one(line);
      ++count;
    }
  CHECK(count >= 10, name, ": ", count, " lines");
  return count;
}
void check_bits(const Line& line, double got) {
  const bool neighbour = line.results.size() == 3;  // expected, nearest neighbour, correctly rounded
  CHECK(to_bits(got) == line.bits(0), line.place(), " gives ", std::to_string(to_bits(got)));
  if (neighbour) CHECK(std::abs(static_cast<int64_t>(line.bits(0) - line.bits(2))) == 1, line.place());
}
bool same(float got, uint64_t want) {
  uint32_t u;
  std::memcpy(&u, &got, 4);
  return u == want;
}

TEST("elementary: the table's bits") {
  const auto table = read_table();
  if (table.empty())
    return skip(
        "test/fixtures/elementary is neither here nor a folder up; ORCHESTRATOR_FIXTURES names mmdit beside "
        "it");
  const std::map<std::string, double (*)(double)> of_one = {
      {"exp", elementary::exp}, {"log", elementary::log}, {"sin", elementary::sin},
      {"cos", elementary::cos}, {"tan", elementary::tan}, {"powerOf10000", elementary::power_of_10000}};
  for (const auto& [name, f] : of_one)
    check(table, name, [f = f](const Line& line) { check_bits(line, f(line.number(0))); });
  check(table, "atan2",
        [](const Line& line) { check_bits(line, elementary::atan2(line.number(0), line.number(1))); });
  check(table, "power",
        [](const Line& line) { check_bits(line, elementary::power(line.number(0), line.whole(1))); });
  check(table, "oneMinusPower", [](const Line& line) {
    check_bits(line, elementary::one_minus_power(line.number(0), line.whole(1)));
  });
  check(table, "normalPair", [](const Line& line) {
    double x, y;
    elementary::normal_pair(line.number(0), line.number(1), x, y);
    CHECK(to_bits(x) == line.bits(0) && to_bits(y) == line.bits(1), line.place());
  });
}

TEST("elementary: bits of bias corrections, positions, timesteps and initial weights") {
  const auto table = read_table();
  if (table.empty()) return skip("test/fixtures/elementary is neither here nor a folder up");
  check(table, "adamw", [](const Line& line) {
    const auto c = optim::AdamW::factors(
        {line.whole(3), line.number(0), line.number(1), line.number(2), 1e-8, 0.1, 1, 0.99});
    CHECK(same(c.step, line.bits(0)) && same(c.root, line.bits(1)), line.place());
  });
  check(table, "position", [](const Line& line) {
    const double position = line.number(0);
    const int64_t quarter = line.whole(1), j = line.whole(2);
    std::vector<float> codes(2 * quarter);
    encode_positions(&position, 1, quarter, codes.data());
    CHECK(same(codes[j], line.bits(0)) && same(codes[quarter + j], line.bits(1)), line.place());
  });
  check(table, "timestep", [](const Line& line) {
    const float t = static_cast<float>(line.number(0));
    const int64_t i = line.whole(1);
    for (const kernels::Table* kernels : tables()) {
      std::vector<float> waves(2 * kernels::kWaves);
      kernels->f32.timestep_embedding(waves.data(), &t, 1);
      CHECK(same(waves[kernels::kWaves + i], line.bits(0)) && same(waves[i], line.bits(1)), kernels->isa, " ",
            line.place());
    }
  });
  const ParameterTable parameters({1, 3, 2, 16, 64, 32, 16, false, {}});
  check(table, "weight", [&](const Line& line) {
    for (const Parameter& p : parameters.parameters) {
      if (p.name != "t_embedder.mlp.0.weight") continue;
      std::vector<float> w(p.length);
      initial_values(p, w.data(), static_cast<uint64_t>(line.number(0)));
      CHECK(same(w.at(line.whole(1)), line.bits(0)), line.place());
    }
  });
}

TEST("elementary: the position table consists of the encodings of its rows and columns") {
  const ModelSpec spec{1, 2, 2, 16, 64, 32, 5, false, {}};
  const int64_t h = spec.hidden();
  std::vector<float> table(25 * h), codes(5 * h / 2);
  const double coordinates[] = {0, 1, 2, 3, 4};
  position_table(spec, table.data());
  encode_positions(coordinates, 5, h / 4, codes.data());
  for (int64_t at = 0; at < 25; ++at)
    for (int64_t i = 0; i < h; ++i) {
      const int64_t coordinate = i < h / 2 ? at % 5 : at / 5;
      CHECK(table[at * h + i] == codes[coordinate * (h / 2) + i % (h / 2)], at, " ", i);
    }
}

/// Error in units in the last place of the double nearest to `want`.
double error(double got, long double want) {
  int exponent;
  std::frexp(static_cast<double>(want), &exponent);
  return static_cast<double>(std::abs(got - want) / std::ldexp(1.0L, std::max(exponent, -1021) - 53));
}

TEST("elementary: within 0.502 units in the last place of long double") {
  if (LDBL_MANT_DIG < 64) return skip("long double is no more than double here");
  std::mt19937_64 random(7);
  const auto between = [&](double low, double high) {
    return low + (high - low) * static_cast<double>(random() >> 11) * 0x1p-53;
  };
  struct Function {
    const char* name;
    double (*ours)(double);
    long double (*theirs)(long double);
    double low, high;
  };
  const Function functions[] = {
      {"exp", elementary::exp, expl, -20, 20},
      {"exp", elementary::exp, expl, -708, 709},
      {"log", elementary::log, logl, 0, 1},
      {"log", elementary::log, logl, 0.9, 1.1},
      {"sin", elementary::sin, sinl, -4, 4},
      {"sin", elementary::sin, sinl, -1e5, 1e5},
      {"cos", elementary::cos, cosl, -4, 4},
      {"cos", elementary::cos, cosl, -1e5, 1e5},
      {"tan", elementary::tan, tanl, 0, M_PI / 2},
      {"10000^x", elementary::power_of_10000, [](long double x) { return powl(10000, x); }, -1, 1},
  };
  constexpr int kDraws = 100000;
  for (const Function& f : functions) {
    double worst = 0, at = 0;
    for (int i = 0; i < kDraws; ++i) {
      const double x = between(f.low, f.high), e = error(f.ours(x), f.theirs(x));
      if (!(e <= worst)) worst = e, at = x;
    }
    CHECK_CLOSE(worst, 0.502, f.name, " of ", at);
  }
  double worst = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double y = between(-1, 1), x = between(-1, 1);
    worst = std::max(worst, error(elementary::atan2(y, x), atan2l(y, x)));
  }
  CHECK_CLOSE(worst, 0.502, "atan2");
  int wrong = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = between(-1000, 1000);
    float sine, cosine;
    elementary::sine_cosine(x, sine, cosine);
    wrong += sine != static_cast<float>(sinl(x));
    wrong += cosine != static_cast<float>(cosl(x));
  }
  CHECK(wrong == 0, wrong, " of single precision");
}

TEST("elementary: at the ends of the ranges") {
  using namespace elementary;
  const double inf = INFINITY;
  CHECK(elementary::exp(-inf) == 0 && elementary::exp(-746) == 0 && elementary::exp(710) == inf &&
        elementary::exp(inf) == inf && std::isnan(elementary::exp(NAN)));
  CHECK(elementary::log(0) == -inf && elementary::log(-0.0) == -inf && std::isnan(elementary::log(-1)) &&
        elementary::log(inf) == inf && std::isnan(elementary::log(NAN)) && elementary::log(1) == 0);
  for (const double x : {1.1e6, -1.1e6, inf, -inf, static_cast<double>(NAN)}) {
    float sine, cosine;
    elementary::sine_cosine(x, sine, cosine);
    CHECK(std::isnan(elementary::sin(x)) && std::isnan(elementary::cos(x)) &&
              std::isnan(elementary::tan(x)) && std::isnan(sine) && std::isnan(cosine),
          x);
  }
  for (const double zero : {0.0, -0.0}) {
    CHECK(to_bits(elementary::sin(zero)) == to_bits(zero) &&
          to_bits(elementary::tan(zero)) == to_bits(zero) && elementary::cos(zero) == 1);
    CHECK(to_bits(elementary::atan2(zero, 1)) == to_bits(zero));
    CHECK(elementary::atan2(zero, -1) == (std::signbit(zero) ? -M_PI : M_PI));
    CHECK(elementary::atan2(1, zero) == M_PI / 2 && elementary::atan2(-1, zero) == -M_PI / 2);
  }
  CHECK(std::isnan(elementary::atan2(inf, 1)) && std::isnan(elementary::atan2(1, NAN)));
  CHECK(elementary::power(0, 0) == 1 && elementary::one_minus_power(0.999, 0) == 0);
}

TEST("elementary: products and sums are not fused") {
  // If this were rounded once instead of twice, the product's rounding error would remain.
  volatile double a = 1 + 0x1p-30, b = 1 - 0x1p-30, c = -1;
  const double x = a, y = b, z = c;
  CHECK(x * y + z == 0);
  const Rounded<double> p = x, q = y, r = z;
  CHECK((p * q + r).value == 0);
}

TEST("elementary: the noise of GPUs is that of the generic kernels") {
  const kernels::Table* plain = kernels::cpu_named("generic");
  if (plain == nullptr) return skip("there are no generic kernels here");
  const kernels::DrawKey key{0x123456789abcdef0, 7, 99, 0xabcdef12345678};
  constexpr int64_t n = 5003;
  const auto x0 = random<float>(n, 1);
  std::vector<float> of[2][3];
  for (int place = 0; place < 2; ++place) {
    const kernels::Table& t = place == 0 ? *plain : kernels::cuda::table();
    const kernels::NoiseMix mix{0.7f, 0.3f, -1, 1, key};
    for (auto& v : of[place]) v.resize(n);
    t.raw.normal(of[place][0].data(), key, n);
    t.raw.mix_noise(of[place][1].data(), of[place][2].data(), x0.data(), &mix, 1, n);
  }
  for (int i = 0; i < 3; ++i) CHECK(std::memcmp(of[0][i].data(), of[1][i].data(), n * sizeof(float)) == 0, i);
}

}  // namespace
}  // namespace orch::test
