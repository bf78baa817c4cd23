// The largest magnitudes of tensors that are quantized: those that the kernels which write a tensor find on
// the way, and those that the quantization looks for.
#include <cstring>
#include <map>

#include "core/float8.h"
#include "devices.h"
#include "graph/executor.h"
#include "kernels_support.h"
#include "model/model.h"

namespace orch::test {
namespace {

/// The largest magnitude as bits of a float, of which those of NaN are the largest.
uint32_t amax_of(const std::vector<bf16>& x) {
  uint32_t most = 0;
  for (const bf16 e : x) most = std::max(most, (e.bits & 0x7fffu) << 16);
  return most;
}

const ModelSpec kModel{2, 2, 2, 4, 48, 32, 8, true, {0}};
constexpr BatchShape kShape{2, 8, 6, 5};

/// A step of a small model, whose operands are multiplied by `factor`.
struct Fp8Step {
  std::unique_ptr<ModelGraph> built;
  graph::Executor executor;
  Memory memory;

  Fp8Step(graph::Device& device, Recompute level)
      : built(build_model(kModel, ParameterTable(kModel), kShape,
                          {DType::BF16, DType::BF16, true, false, level, true, device})),
        executor(built->graph, 1, device),
        memory(device) {
    device.fill(executor.arena().data(), 0xff, executor.arena().bytes());
    const int64_t length = ParameterTable(kModel).length;
    const auto weights = random<float>(length, 21, 0.1);
    executor.bind_flat(memory.put(weights), memory.put(rounded(weights)),
                       memory.put(std::vector<float>(weights.size())));
  }

  /// `part`: the nodes of a part, into which the step is cut.
  void run(float factor, int64_t part, const std::function<void(int64_t)>& after) {
    const int64_t latent = 2 * 4 * 8 * 6;
    const auto scaled = [&](std::vector<float> x) {
      for (float& e : x) e *= factor;
      return x;
    };
    const std::vector<void*> inputs = {memory.put(scaled(random<float>(latent, 22))),
                                       memory.put(std::vector<float>{100, 800}),
                                       memory.put(rounded(scaled(random<float>(2 * 5 * 48, 23)))),
                                       memory.put(rounded(scaled(random<float>(2 * 32, 24)))),
                                       memory.put(random<float>(12 * kModel.hidden(), 25, 0.5)),
                                       memory.put(scaled(random<float>(latent, 26))),
                                       memory.put(scaled({0.5f, 0.5f}))};
    for (size_t i = 0; i < inputs.size(); ++i) executor.bind_input(static_cast<int64_t>(i), inputs[i]);
    const int64_t nodes = std::ssize(built->graph.nodes());
    for (int64_t from = 0; from < nodes; from += part)
      executor.run_nodes(from, std::min(from + part, nodes), nullptr, &after);
  }
};

/// The inverse scale that a node which quantizes has to write, from the tensor that it reads.
float wanted_inverse(Fp8Step& step, const graph::Node& node) {
  const auto& g = step.built->graph;
  const auto& x = g[node.inputs[0]];
  const int64_t n = graph::elements(x.shape);
  void* from = step.executor.data(node.inputs[0]);
  if (std::strstr(node.op->name, "gelu")) {
    bf16* const y = step.memory.put(std::vector<bf16>(n));
    g.backend().kernels().b16.gelu(y, static_cast<const bf16*>(from), n);
    from = y;
  }
  const uint32_t amax = amax_of(step.memory.get<bf16>(from, n));
  return (g[node.outputs[0]].dtype == DType::E4M3 ? float8::scale_for<E4M3>(amax)
                                                  : float8::scale_for<E5M2>(amax))
      .inverse;
}

TEST("device: every tensor is quantized by its own largest magnitude, by whichever kernel it is found") {
  for (const TestedDevice& d : devices())
    for (Recompute level : {Recompute::Nothing, Recompute::Norms, Recompute::Mlp, Recompute::Block}) {
      const std::string at = text(d.name, ", level ", static_cast<int>(level));
      Fp8Step step(d.device, level);
      const auto& nodes = step.built->graph.nodes();
      int quantized = 0;
      const auto check = [&](int64_t i) {
        const graph::Node& node = nodes[i];
        if (!std::strstr(node.op->name, "quantize")) return;
        const float got = step.memory.get<float>(step.executor.data(node.outputs[2]), 1)[0];
        CHECK(got == wanted_inverse(step, node), at, ": ", step.built->graph[node.inputs[0]].name, ", ", got);
        ++quantized;
      };
      step.run(64, std::ssize(nodes), [](int64_t) {});
      // Magnitudes of the run before are forgotten, but not those of the parts before.
      step.run(1, level == Recompute::Nothing ? 1 : std::ssize(nodes), check);
      std::map<std::string, int> found;
      for (const graph::Node& n : nodes)
        if (n.op->finds_amax >= 0 && n.amax >= 0) ++found[n.op->name];
      CHECK(quantized > 40, at, ": ", quantized);
      // The model has two blocks with two streams each; the first has a second attention, and the last has no
      // MLP for text.
      const std::map<std::string, int> want{{"layer norm, modulate", 3},
                                            {"gate, residual, layer norm, modulate", 5},
                                            {"gate, residual, layer norm, modulate backward", 6},
                                            {"split heads, qk norm backward", 5},
                                            {"gelu backward", 3}};
      if (level == Recompute::Nothing)
        for (const auto& [name, count] : want) CHECK(found[name] == count, at, ": ", name, ", ", found[name]);
    }
}

TEST("device: a largest magnitude is raised, whatever the size, and NaN is the largest") {
  for (const TestedDevice& d : devices())
    for (int64_t n : {1, 8, 27, 5000}) {
      auto x = rounded(random<float>(n, 3));
      const auto dy = rounded(random<float>(n, 4));
      for (const float last : {2.0f, static_cast<float>(NAN)}) {
        x[n - 1] = to_bf16(last);
        Memory memory(d.device);
        bf16* const dx = memory.put(std::vector<bf16>(n));
        uint32_t* const amax = memory.put(std::vector<uint32_t>{0, 0x7f7fffffu});
        for (int i : {0, 1})
          d.device.kernels().b16.gelu_backward(dx, memory.put(dy), memory.put(x), n, amax + i);
        const uint32_t want = amax_of(memory.get<bf16>(dx, n));
        const auto got = memory.get<uint32_t>(amax, 2);
        const std::string at = text(d.name, ", ", n, ", ", last);
        CHECK(got[0] == want && got[1] == std::max(want, 0x7f7fffffu), at, ": ", got[0], ", not ", want);
        CHECK((want > 0x7f800000u) == std::isnan(last), at);
      }
    }
}

TEST("device: a tensor has the same bytes if its largest magnitude is known") {
  for (const TestedDevice& d : devices())
    for (auto [rows, width] : {std::pair<int64_t, int64_t>{300, 208}, {16, 16}}) {
      const int64_t n = rows * width, stride = (rows + 15) / 16 * 16;
      const auto x = rounded(random<float>(n, 7));
      const auto run = [&](uint32_t amax, bool found) {
        Memory memory(d.device);
        uint32_t* const word = memory.put(std::vector<uint32_t>{amax});
        const kernels::Quantized to{memory.put(std::vector<uint8_t>(n)),
                                    memory.put(std::vector<uint8_t>(stride * width)),
                                    memory.put(std::vector<float>(1))};
        float* const sums = memory.put(std::vector<float>(width));
        d.device.kernels().raw.quantize(to, sums, memory.put(x), {word, found}, rows, width, DType::E5M2);
        CHECK(memory.get<uint32_t>(word, 1)[0] == amax_of(x), d.name);
        return std::tuple{memory.get<uint8_t>(to.values, n),
                          memory.get<uint8_t>(to.transposed, stride * width),
                          memory.get<float>(to.inverse, 1), memory.get<float>(sums, width)};
      };
      CHECK(run(0, false) == run(amax_of(x), true), d.name, ", ", rows, "x", width);
    }
}

}  // namespace
}  // namespace orch::test
