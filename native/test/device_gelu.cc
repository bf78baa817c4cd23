// GELU in the epilogue of its products on a device: the products against fp64, and a step of a model with
// fused GELU against one with passes of its own, at every level of recomputation.
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>

#include "devices.h"
#include "graph/executor.h"
#include "kernels_support.h"
#include "model/model.h"

namespace orch::test {
namespace {

using graph::Epilogue;

/// Sets ORCHESTRATOR_CUDA_GELU for its lifetime.
class Choice {
 public:
  explicit Choice(const char* value) {
    if (const char* before = std::getenv(kName)) before_ = before;
    setenv(kName, value, 1);
  }
  Choice(const Choice&) = delete;
  ~Choice() { before_ ? setenv(kName, before_->c_str(), 1) : unsetenv(kName); }

 private:
  static constexpr const char* kName = "ORCHESTRATOR_CUDA_GELU";
  std::optional<std::string> before_;
};

double gelu(double x) { return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }
double gelu_slope(double x) {
  const double h = 1e-5;
  return (gelu(x + h) - gelu(x - h)) / (2 * h);
}

TEST("device: products with GELU in the epilogue") {
  const Choice fused("fused");
  for (const TestedDevice& d : devices())
    for (Epilogue epilogue : {Epilogue::Gelu, Epilogue::GeluKeep, Epilogue::GeluBackward})
      for (auto [m, n, k] :
           {std::array<int64_t, 3>{1, 64, 64}, {33, 128, 192}, {d.large ? 1178 : 70, 256, 64}}) {
        const bool backward = epilogue == Epilogue::GeluBackward;
        graph::MatmulSpec s{m,           n,     k,         DType::BF16, DType::BF16,
                            DType::BF16, false, !backward, !backward,   false};
        s.bias_type = backward ? DType::F32 : DType::BF16;
        s.epilogue = epilogue;
        const std::string at = text(d.name, ", ", graph::key_of(s));
        CHECK(d.device.fuses(s), at);
        graph::MatmulSpec single = s;
        single.a = single.b = single.c = DType::F32;
        CHECK(!d.device.fuses(single), at, ": fp32 is not fused");
        const auto a = rounded(random<float>(m * k, 1)), b = rounded(random<float>(k * n, 2, 0.1)),
                   bias = rounded(random<float>(n, 3)), x = rounded(random<float>(m * n, 4));
        std::vector<double> before(m * n), want(m * n);
        for (int64_t i = 0; i < m; ++i)
          for (int64_t j = 0; j < n; ++j) {
            double sum = backward ? 0 : to_float(bias[j]);
            for (int64_t p = 0; p < k; ++p)
              sum +=
                  static_cast<double>(to_float(a[i * k + p])) * to_float(b[backward ? p * n + j : j * k + p]);
            before[i * n + j] = sum;
            want[i * n + j] = backward ? sum * gelu_slope(to_float(x[i * n + j])) : gelu(sum);
          }
        Memory memory(d.device);
        const std::vector<bf16> nothing(m * n, bf16{0x7fff});
        void* pointers[] = {memory.put(a), memory.put(b),       memory.put(bias),
                            memory.put(x), memory.put(nothing), memory.put(nothing)};
        const graph::Ref inputs[] = {{0}, {1}, backward ? graph::Ref{} : graph::Ref{2}, {3}},
                         outputs[] = {{4}, epilogue == Epilogue::GeluKeep ? graph::Ref{5} : graph::Ref{}};
        const auto op = d.device.matmul("product", s);
        const auto run = [&] {
          op->run({pointers, inputs, outputs, nullptr, nullptr, 0, 1, d.device.kernels(), false});
          return widened(memory.get<bf16>(pointers[4], m * n));
        };
        const auto got = run();
        CHECK(run() == got, at, ": two runs differ");
        CHECK_CLOSE(relative_error(got, want, m * n), 3e-3, at);
        if (epilogue == Epilogue::GeluKeep)
          CHECK_CLOSE(relative_error(widened(memory.get<bf16>(pointers[5], m * n)), before, m * n), 3e-3, at,
                      ": what GELU is applied to");
      }
}

struct Step {
  std::vector<float> gradient, loss;
  std::map<std::string, int> nodes;
};

const ModelSpec kModel{2, 2, 2, 4, 48, 32, 8, true, {0}};
constexpr BatchShape kShape{2, 8, 6, 5};

/// The gradient of one random case; only the loss without a backward pass.
Step step(graph::Device& device, const char* choice, bool backward, Recompute level = Recompute::Nothing,
          DType t = DType::BF16) {
  const Choice chosen(choice);
  const ParameterTable table(kModel);
  auto built = build_model(kModel, table, kShape, {t, t, backward, false, level, false, device});
  graph::Executor e(built->graph, 1, device);
  Memory memory(device);
  device.fill(e.arena().data(), 0xff, e.arena().bytes());
  const auto weights = random<float>(table.length, 21, 0.1);
  const int64_t latent = 2 * 4 * 8 * 6;
  const auto put = [&](const std::vector<float>& x) {
    return t == DType::F32 ? static_cast<void*>(memory.put(x)) : memory.put(rounded(x));
  };
  void* inputs[kInputs] = {memory.put(random<float>(latent, 22)),
                           memory.put(std::vector<float>{100, 800}),
                           put(random<float>(2 * 5 * 48, 23)),
                           put(random<float>(2 * 32, 24)),
                           memory.put(random<float>(12 * kModel.hidden(), 25, 0.5)),
                           memory.put(random<float>(latent, 26)),
                           memory.put(std::vector<float>{0.5f, 0.5f})};
  for (int64_t i = 0; i < kInputs; ++i) e.bind_input(i, inputs[i]);
  float* const gradient = memory.put(std::vector<float>(weights.size(), 0.0f));
  e.bind_flat(memory.put(weights), memory.put(rounded(weights)), gradient);
  e.run(nullptr, nullptr);
  Step s{memory.get<float>(gradient, table.length), memory.get<float>(e.data(built->loss), 2), {}};
  for (const auto& n : built->graph.nodes()) ++s.nodes[n.op->name];
  return s;
}

TEST("device: a step with GELU in the epilogue against one with passes of its own") {
  constexpr int kMlps = 3;  // the text stream of the last block has none
  for (const TestedDevice& d : devices()) {
    const Step want = step(d.device, "separate", true);
    CHECK(want.nodes.at("gelu") == kMlps && want.nodes.at("gelu backward") == kMlps, d.name);
    CHECK(!want.nodes.contains("linear gelu") && !want.nodes.contains("linear dX gelu"), d.name);
    const Step exact = step(d.device, "fused", true, Recompute::Nothing, DType::F32);
    CHECK(!exact.nodes.contains("linear gelu"), d.name, ": fp32 is not fused");
    const auto from = [](const Step& got, const Step& of) {
      return relative_error(got.gradient, of.gradient, static_cast<int64_t>(of.gradient.size()));
    };
    Step first;
    for (Recompute level : {Recompute::Nothing, Recompute::Norms, Recompute::Mlp, Recompute::Block}) {
      const std::string at = text(d.name, ", level ", static_cast<int>(level));
      Step got = step(d.device, "fused", true, level);
      const int again = level >= Recompute::Mlp ? kMlps : 0;
      CHECK(got.nodes["linear gelu"] == kMlps + again && got.nodes["linear dX gelu"] == kMlps, at);
      CHECK(got.nodes["gelu"] == (level == Recompute::Norms ? kMlps : 0) && got.nodes["gelu backward"] == 0,
            at);
      const double far = from(got, want);
      if (std::getenv("ORCHESTRATOR_TEST_VERBOSE"))
        std::printf(
            "  %s: gradients differ by %.2e, losses by %.2e; from fp32 by %.2e, with passes by %.2e\n",
            at.c_str(), far, relative_error(got.loss, want.loss, 2), from(got, exact), from(want, exact));
      CHECK_CLOSE(far, 1e-2, at, ": gradient");
      CHECK(far > 0, at, ": the two ways are one");
      CHECK_CLOSE(from(got, exact), 1.1 * from(want, exact), at, ": farther from fp32 than with passes");
      CHECK_CLOSE(relative_error(got.loss, want.loss, 2), 1e-3, at, ": loss");
      if (level == Recompute::Nothing) {
        first = got;
        const Step twice = step(d.device, "fused", true);
        CHECK(twice.gradient == got.gradient && twice.loss == got.loss, at, ": two runs differ");
      }
      CHECK(got.loss == first.loss, at, ": recomputation changes the loss");
      // At level Norms, what the second layer's weights see is recomputed from rounded values.
      if (level != Recompute::Norms)
        CHECK(got.gradient == first.gradient, at, ": recomputation changes bits");
    }
    const Step kept = step(d.device, "separate", true, Recompute::Block);
    CHECK(kept.gradient == want.gradient, d.name, ": recomputation changes bits of separate passes");
    const Step sampled = step(d.device, "fused", false);
    CHECK(sampled.nodes.at("linear gelu") == kMlps && !sampled.nodes.contains("gelu"), d.name);
    CHECK_CLOSE(relative_error(sampled.loss, first.loss, 2), 1e-3, d.name, ": without a backward pass");
  }
}

TEST("device: a choice for GELU that is not known") {
  const Choice unknown("slow");
  bool refused = false;
  try {
    devices()[0].device.fuses({1, 8, 8, DType::BF16, DType::BF16, DType::BF16, false, true, false, false});
  } catch (const Error& e) {
    refused = std::string(e.code()) == "ERR_CUDA";
  }
  CHECK(refused);
}

}  // namespace
}  // namespace orch::test
