// One table of operations and shapes: the graph's gradient of each, for every input and weight, against
// central differences of its forward pass along random directions; and two runs against each other, with
// equal bits.
#include <cstring>
#include <functional>
#include <random>

#include "../core/memory.h"
#include "../graph/executor.h"
#include "../ops/ops.h"
#include "harness.h"

namespace {

using namespace orch;
using graph::Graph;
using graph::Ref;
using graph::Shape;

/// The operands of a row of the table: fp32 inputs and weights (flat), in order.
struct Operands {
  std::vector<Ref> inputs, weights;
};
struct OpCase {
  std::string name;
  std::vector<Shape> inputs, weights;
  std::function<std::vector<Ref>(Graph&, const Operands&)> build;
};

/// Loss = sum over the outputs of (fixed random weights) * output, so that d loss / d output is those
/// weights.
struct Built {
  Graph graph;
  std::vector<Ref> inputs, outputs;
  std::vector<int64_t> weight_offsets;
  int64_t weight_elements = 0;
};

constexpr int64_t kSeedInput = 1000;  // input indices of d loss / d output

std::vector<float> random_values(int64_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> v(static_cast<size_t>(n));
  for (float& x : v) x = normal(random);
  return v;
}

void build(const OpCase& c, Built& b, bool backward) {
  Operands o;
  for (size_t i = 0; i < c.inputs.size(); ++i)
    o.inputs.push_back(b.graph.input("input", DType::F32, c.inputs[i], static_cast<int64_t>(i), true));
  for (const Shape& s : c.weights) {
    o.weights.push_back(b.graph.parameter("weight", DType::F32, s, b.weight_elements));
    b.weight_offsets.push_back(b.weight_elements);
    b.weight_elements += (graph::elements(s) + 15) / 16 * 16;
  }
  b.inputs = o.inputs;
  b.outputs = c.build(b.graph, o);
  for (size_t i = 0; i < b.outputs.size(); ++i) {
    Ref y = b.outputs[i];
    b.graph[y].keep = true;
    if (!backward) continue;
    Ref seed = b.graph.input("seed", DType::F32, b.graph[y].shape, kSeedInput + static_cast<int64_t>(i));
    b.graph.reverse().set(y, seed);
  }
  if (backward) {
    b.graph.differentiate();
    for (Ref in : b.inputs)
      if (Ref d = b.graph.reverse().of(in)) b.graph[d].keep = true;
  }
  b.graph.plan();
}

/// Operands as one flat vector: inputs first, then the weights.
struct Point {
  std::vector<std::vector<float>> inputs;
  std::vector<float> weights;
};

double loss_at(const OpCase& c, const Point& p, const std::vector<std::vector<float>>& seeds) {
  Built b;
  build(c, b, false);
  graph::Executor e(b.graph);
  Point copy = p;
  for (size_t i = 0; i < copy.inputs.size(); ++i)
    e.bind_input(static_cast<int64_t>(i), copy.inputs[i].data());
  e.bind_flat(copy.weights.data(), nullptr, nullptr);
  e.run(nullptr, nullptr);
  double sum = 0;
  for (size_t i = 0; i < b.outputs.size(); ++i) {
    const float* y = static_cast<const float*>(e.data(b.outputs[i]));
    for (size_t j = 0; j < seeds[i].size(); ++j) sum += static_cast<double>(y[j]) * seeds[i][j];
  }
  return sum;
}

Point gradient_at(const OpCase& c, const Point& p, std::vector<std::vector<float>>& seeds, int threads) {
  Built b;
  build(c, b, true);
  graph::Executor e(b.graph, threads);
  Point copy = p, gradient;
  gradient.weights.assign(p.weights.size(), NAN);
  for (size_t i = 0; i < copy.inputs.size(); ++i)
    e.bind_input(static_cast<int64_t>(i), copy.inputs[i].data());
  for (size_t i = 0; i < seeds.size(); ++i)
    e.bind_input(kSeedInput + static_cast<int64_t>(i), seeds[i].data());
  e.bind_flat(copy.weights.data(), nullptr, gradient.weights.data());
  e.run(nullptr, nullptr);
  for (size_t i = 0; i < copy.inputs.size(); ++i) {
    Ref d = b.graph.reverse().of(b.inputs[i]);
    std::vector<float> g(copy.inputs[i].size(), 0.0f);
    if (d) std::memcpy(g.data(), e.data(d), g.size() * sizeof(float));
    gradient.inputs.push_back(std::move(g));
  }
  return gradient;
}

void check_case(const OpCase& c) {
  unsigned seed = 7;
  Point p;
  for (const Shape& s : c.inputs) p.inputs.push_back(random_values(graph::elements(s), ++seed));
  Built shape;
  build(c, shape, false);
  p.weights = random_values(shape.weight_elements, ++seed);
  for (float& w : p.weights) w *= 0.3f;
  std::vector<std::vector<float>> seeds;
  for (Ref y : shape.outputs) seeds.push_back(random_values(graph::elements(shape.graph[y].shape), ++seed));

  const Point g = gradient_at(c, p, seeds, 1);
  for (int threads : {1, 3}) {
    const Point again = gradient_at(c, p, seeds, threads);
    CHECK(g.inputs == again.inputs && g.weights == again.weights, c.name, ": a second run, with ", threads,
          " threads, differs");
  }

  // Each operand separately, along two directions.
  const double step = 5e-3;
  const size_t operands = c.inputs.size() + c.weights.size();
  for (size_t operand = 0; operand < operands; ++operand)
    for (unsigned direction = 0; direction < 2; ++direction) {
      const bool is_input = operand < c.inputs.size();
      const size_t w = operand - c.inputs.size();
      const int64_t offset = is_input ? 0 : shape.weight_offsets[w];
      const int64_t n = graph::elements(is_input ? c.inputs[operand] : c.weights[w]);
      const auto d = random_values(n, 100 + direction);
      auto moved = [&](double by) {
        Point q = p;
        std::vector<float>& v = is_input ? q.inputs[operand] : q.weights;
        for (int64_t i = 0; i < n; ++i) v[offset + i] += static_cast<float>(by * d[i]);
        return loss_at(c, q, seeds);
      };
      const double expected = (moved(step) - moved(-step)) / (2 * step);
      const std::vector<float>& grad = is_input ? g.inputs[operand] : g.weights;
      double got = 0, norm = 0;
      for (int64_t i = 0; i < n; ++i) {
        got += static_cast<double>(grad[offset + i]) * d[i];
        norm += static_cast<double>(grad[offset + i]) * grad[offset + i];
      }
      // The bound is relative to the gradient's norm, because a direction may be nearly orthogonal to it.
      CHECK_CLOSE(std::abs(got - expected), 2e-3 * std::sqrt(norm) + 1e-4, c.name, ", operand ", operand,
                  ": ", got, " against ", expected);
    }
}

std::vector<OpCase> table() {
  using namespace ops;
  std::vector<OpCase> t;
  for (auto [rows, in, out] : {std::array<int64_t, 3>{1, 64, 64}, {7, 64, 128}, {33, 128, 192}, {5, 256, 64}})
    t.push_back({"linear " + std::to_string(rows) + "x" + std::to_string(in) + "x" + std::to_string(out),
                 {{rows, in}},
                 {{out, in}, {out}},
                 [](Graph& g, const Operands& o) {
                   return std::vector{linear(g, o.inputs[0], {o.weights[0], o.weights[1]}, DType::F32)};
                 }});
  t.push_back({"linear, twice of one input",
               {{6, 64}},
               {{64, 64}, {64}, {128, 64}, {128}},
               [](Graph& g, const Operands& o) {
                 return std::vector{linear(g, o.inputs[0], {o.weights[0], o.weights[1]}, DType::F32),
                                    linear(g, o.inputs[0], {o.weights[2], o.weights[3]}, DType::F32)};
               }});
  for (auto [samples, tokens, width] :
       {std::array<int64_t, 3>{1, 1, 64}, {2, 7, 128}, {3, 24, 192}, {1, 150, 64}}) {
    const std::string dims =
        std::to_string(samples) + "x" + std::to_string(tokens) + "x" + std::to_string(width);
    t.push_back({"layer_norm_modulate " + dims,
                 {{samples * tokens, width}, {samples, 2 * width}},
                 {},
                 [=](Graph& g, const Operands& o) {
                   return std::vector{
                       gate_norm(g, o.inputs[0], {}, {}, {o.inputs[1], 0}, samples, DType::F32, 0).second};
                 }});
    t.push_back({"gate_residual " + dims,
                 {{samples * tokens, width}, {samples * tokens, width}, {samples, width}},
                 {},
                 [=](Graph& g, const Operands& o) {
                   return std::vector{gate_residual(g, o.inputs[0], o.inputs[1], {o.inputs[2], 0}, samples)};
                 }});
    t.push_back(
        {"gate_norm " + dims,  // from one block, with its modulation, to the next
         {{samples * tokens, width}, {samples * tokens, width}, {samples, width}, {samples, 2 * width}},
         {},
         [=](Graph& g, const Operands& o) {
           const auto [x, normed] = gate_norm(g, o.inputs[0], o.inputs[1], {o.inputs[2], 0}, {o.inputs[3], 0},
                                              samples, DType::F32, 0);
           return std::vector{normed, x};
         }});
    t.push_back({"dual adaLN " + dims,  // two norms of one residual, as in a dual-attention block
                 {{samples * tokens, width}, {samples, 6 * width}},
                 {},
                 [=](Graph& g, const Operands& o) {
                   Ref x = o.inputs[0], m = o.inputs[1];
                   Ref a = gate_norm(g, x, {}, {}, {m, 0}, samples, DType::F32, 0).second;
                   Ref b = gate_norm(g, x, {}, {}, {m, 3}, samples, DType::F32, 0).second;
                   x = gate_residual(g, x, gelu(g, a), {m, 2}, samples);
                   return std::vector{gate_residual(g, x, gelu(g, b), {m, 5}, samples)};
                 }});
  }
  for (int64_t n : {1, 63, 1000, 30000}) {
    const Shape s{n, 3};
    t.push_back({"gelu " + std::to_string(n), {s}, {}, [](Graph& g, const Operands& o) {
                   return std::vector{gelu(g, o.inputs[0])};
                 }});
    t.push_back({"silu " + std::to_string(n), {s}, {}, [](Graph& g, const Operands& o) {
                   return std::vector{silu(g, o.inputs[0], DType::F32)};
                 }});
    t.push_back({"add " + std::to_string(n), {s, s}, {}, [](Graph& g, const Operands& o) {
                   return std::vector{add(g, o.inputs[0], o.inputs[1])};
                 }});
  }
  struct Attention {
    int64_t samples, heads, context, image;
    bool norm, pre_only;
  };
  for (auto a : {Attention{1, 1, 1, 1, false, false},
                 {2, 2, 5, 9, true, false},
                 {1, 2, 8, 16, false, false},
                 {2, 1, 7, 33, true, true},
                 {1, 3, 0, 40, true, false},
                 {1, 1, 11, 70, false, true}}) {
    const int64_t h = a.heads * 64;
    const std::string name = "joint_attention " + std::to_string(a.context) + "+" + std::to_string(a.image) +
                             (a.norm ? ", norm" : "") + (a.pre_only ? ", pre-only" : "");
    std::vector<Shape> inputs, weights;
    if (a.context) inputs.push_back({a.samples * a.context, 3 * h});
    inputs.push_back({a.samples * a.image, 3 * h});
    if (a.norm) weights.assign(2 * inputs.size(), {64});
    t.push_back({name, inputs, weights, [=](Graph& g, const Operands& o) {
                   std::vector<AttentionStream> streams;
                   for (size_t i = 0; i < o.inputs.size(); ++i) {
                     const int64_t tokens = i + 1 == o.inputs.size() ? a.image : a.context;
                     streams.push_back({o.inputs[i], tokens, a.norm ? o.weights[2 * i] : Ref{},
                                        a.norm ? o.weights[2 * i + 1] : Ref{}});
                   }
                   std::vector<Ref> outputs;
                   for (Ref r : joint_attention(g, streams, a.samples, a.heads, a.pre_only))
                     if (r) outputs.push_back(r);
                   return outputs;
                 }});
  }
  for (auto [c, hh, ww, p] : {std::array<int64_t, 4>{16, 8, 12, 2}, {4, 6, 4, 2}, {3, 5, 7, 1}}) {
    const std::string dims = std::to_string(c) + "x" + std::to_string(hh) + "x" + std::to_string(ww);
    t.push_back({"patchify " + dims, {{2, c, hh, ww}}, {}, [=](Graph& g, const Operands& o) {
                   return std::vector{patchify(g, o.inputs[0], p, DType::F32)};
                 }});
    t.push_back(
        {"unpatchify " + dims, {{2 * (hh / p) * (ww / p), p * p * c}}, {}, [=](Graph& g, const Operands& o) {
           return std::vector{unpatchify(g, o.inputs[0], 2, c, hh, ww, p)};
         }});
  }
  t.push_back({"add_position", {{2 * 12, 64}}, {}, [](Graph& g, const Operands& o) {
                 static std::vector<float> positions = random_values(12 * 64, 3);
                 Ref filled = g.activation("positions", DType::F32, {12, 64});
                 g.append("fill", {}, {filled}, [](const graph::Run& r) {
                   std::memcpy(r.out<float>(0), positions.data(), positions.size() * sizeof(float));
                 });
                 return std::vector{add_position(g, o.inputs[0], filled, 2, DType::F32)};
               }});
  return t;
}

TEST("operations against finite differences") {
  for (const OpCase& c : table()) check_case(c);
}

}  // namespace
