// Updates of the weights by every optimizer.
#include "kernels_support.h"

namespace orch::test {
namespace {

using kernels::Table;

constexpr double kRate = 0.03, kBeta1 = 0.9, kBeta2 = 0.999, kEps = 1e-8, kDecay = 0.1, kScale = 0.5,
                 kEma = 0.99;

Vec difference(const Vec& a, const Vec& b) {
  Vec d(a.size());
  for (size_t i = 0; i < d.size(); ++i) d[i] = a[i] - b[i];
  return d;
}

/// Compares three updates, from moments of 0, with plain fp64: `rule(w, moments, g, step)` updates one
/// element.
template <size_t Moments, class Rule>
void compare(const char* name, Rule rule) {
  const optim::Optimizer& optimizer = optim::named(name);
  CHECK(optimizer.moments.size() == Moments, name);
  for (const Table* t : tables()) {
    for (const int64_t n : {1, 3, 16, 31, 64, 257, 1000}) {
      for (const bool with_ema : {false, true}) {
        for (const bool with_copy : {false, true}) {
          const std::string at = text(name, ", ", t->isa, ", n ", n);
          auto w = random<float>(n, 1), ema = random<float>(n, 2);
          std::vector<float> moments[Moments];
          float* pointers[Moments];
          for (size_t j = 0; j < Moments; ++j) {
            moments[j].resize(n);
            pointers[j] = moments[j].data();
          }
          std::vector<bf16> copy(n, to_bf16(NAN));
          Vec want = wide(w), want_ema = wide(ema), want_moments[Moments];
          for (Vec& m : want_moments) m.resize(n);
          const Vec before = want;
          for (int step = 5; step < 8; ++step) {
            const auto g = random<float>(n, 10 + step, 0.02);
            const optim::Update update =
                optimizer.update({step, kRate, kBeta1, kBeta2, kEps, kDecay, kScale, kEma});
            t->raw.update[optimizer.index](w.data(), pointers, with_ema ? ema.data() : nullptr,
                                           with_copy ? copy.data() : nullptr, g.data(), n, &update);
            for (int64_t i = 0; i < n; ++i) {
              double m[Moments];
              for (size_t j = 0; j < Moments; ++j) m[j] = want_moments[j][i];
              rule(want[i], m, g[i] * kScale, step);
              for (size_t j = 0; j < Moments; ++j) want_moments[j][i] = m[j];
              if (with_ema) want_ema[i] = kEma * want_ema[i] + (1 - kEma) * want[i];
            }
          }
          // Most of a weight is what it was before, so its change is compared, too.
          CHECK_CLOSE(relative(difference(wide(w), before), difference(want, before)), 2e-5, at);
          CHECK_CLOSE(relative(w, want), 3e-7, at);
          for (size_t j = 0; j < Moments; ++j) CHECK_CLOSE(relative(moments[j], want_moments[j]), 1e-6, at);
          CHECK_CLOSE(relative(ema, want_ema), 3e-7, at);
          for (int64_t i = 0; i < n; ++i)
            CHECK(with_copy ? copy[i].bits == to_bf16(w[i]).bits : std::isnan(to_float(copy[i])), at);
        }
      }
    }
  }
}

TEST("kernels adamw") {
  compare<2>("adamw", [](double& w, double(&moments)[2], double g, int step) {
    auto& [m, v] = moments;
    m = kBeta1 * m + (1 - kBeta1) * g;
    v = kBeta2 * v + (1 - kBeta2) * g * g;
    const double mean = m / (1 - std::pow(kBeta1, step)), square = v / (1 - std::pow(kBeta2, step));
    w -= kRate * (mean / (std::sqrt(square) + kEps) + kDecay * w);
  });
}

}  // namespace
}  // namespace orch::test
