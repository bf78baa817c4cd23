// One table of operations and shapes: forward and backward on a device against the same graph on the CPU, for
// every pair of storage types, with random operands and memory filled with NaN; twice, with equal bits, and
// without statistics, which must change none.
#include <cstring>
#include <functional>

#include "devices.h"
#include "graph/executor.h"
#include "kernels/cuda/device.h"
#include "kernels_support.h"
#include "ops/ops.h"

namespace orch::test {
namespace {

using graph::Graph;
using graph::Ref;
using graph::Shape;

struct Operand {
  Shape shape;
  DType type;
};
struct OpCase {
  std::string name;
  std::vector<Operand> inputs, weights;
  std::function<std::vector<Ref>(Graph&, const std::vector<Ref>& inputs, const std::vector<Ref>& weights)>
      build;
};

constexpr int64_t kSeedInput = 1000;  // input indices of d loss / d output

std::vector<char> storage(const std::vector<float>& x, DType t) {
  std::vector<char> bytes(x.size() * size_of(t));
  if (t == DType::F32) {
    if (!x.empty()) std::memcpy(bytes.data(), x.data(), bytes.size());
  } else {
    for (size_t i = 0; i < x.size(); ++i) reinterpret_cast<bf16*>(bytes.data())[i] = to_bf16(x[i]);
  }
  return bytes;
}
std::vector<float> numbers(const std::vector<char>& bytes, DType t) {
  std::vector<float> x(bytes.size() / size_of(t));
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = t == DType::F32 ? reinterpret_cast<const float*>(bytes.data())[i]
                           : to_float(reinterpret_cast<const bf16*>(bytes.data())[i]);
  return x;
}

struct Result {
  std::string name;
  std::vector<float> values;
};

/// Where a graph runs: allocates memory with given contents, and reads it back.
struct Place {
  graph::Device* device;  ///< null: the CPU
  std::vector<Buffer> buffers;
  std::vector<std::unique_ptr<std::vector<char>>> on_host;

  void* put(const std::vector<char>& bytes) {
    // CPU kernels read whole vectors; Buffer provides the 64-byte alignment.
    buffers.push_back(device ? device->allocate(bytes.size()) : Buffer(bytes.size()));
    if (!device) {
      if (!bytes.empty()) std::memcpy(buffers.back().data(), bytes.data(), bytes.size());
      return buffers.back().data();
    }
    on_host.push_back(std::make_unique<std::vector<char>>(bytes));
    device->upload(buffers.back().data(), on_host.back()->data(), bytes.size());
    return buffers.back().data();
  }
  void* poisoned(size_t bytes) { return put(std::vector<char>(bytes, static_cast<char>(0xff))); }
  std::vector<char> get(const void* from, size_t bytes) {
    std::vector<char> to(bytes);
    if (device)
      device->download(to.data(), from, bytes);
    else if (bytes)
      std::memcpy(to.data(), from, bytes);
    return to;
  }
};

/// Outputs, gradients of inputs and weights, and statistics if they are asked for.
std::vector<Result> run(const OpCase& c, graph::Device* device, bool statistics = true) {
  Graph g(device ? *static_cast<const graph::Backend*>(device) : graph::cpu_backend());
  std::vector<Ref> inputs, weights;
  for (size_t i = 0; i < c.inputs.size(); ++i)
    inputs.push_back(g.input("input " + std::to_string(i), c.inputs[i].type, c.inputs[i].shape,
                             static_cast<int64_t>(i), true));
  int64_t elements = 0;
  for (const Operand& w : c.weights) {
    weights.push_back(g.parameter("weight", w.type, w.shape, elements));
    elements += (graph::elements(w.shape) + 15) / 16 * 16;
  }
  const auto outputs = c.build(g, inputs, weights);
  for (size_t i = 0; i < outputs.size(); ++i) {
    g[outputs[i]].keep = true;
    const auto& y = g[outputs[i]];
    g.reverse().set(outputs[i],
                    g.input("seed", y.gradient_dtype, y.shape, kSeedInput + static_cast<int64_t>(i)));
  }
  g.differentiate();
  for (Ref in : inputs)
    if (Ref d = g.reverse().of(in)) g[d].keep = true;
  g.plan();

  Place place{device, {}, {}};
  graph::Device& where = device ? *device : graph::cpu_device();
  graph::Executor e(g, 1, where);
  where.fill(e.arena().data(), 0xff, e.arena().bytes());
  uint64_t seed = 11;
  for (size_t i = 0; i < c.inputs.size(); ++i)
    e.bind_input(
        static_cast<int64_t>(i),
        place.put(storage(random<float>(graph::elements(c.inputs[i].shape), ++seed), c.inputs[i].type)));
  for (size_t i = 0; i < outputs.size(); ++i) {
    const auto& y = g[outputs[i]];
    e.bind_input(kSeedInput + static_cast<int64_t>(i),
                 place.put(storage(random<float>(graph::elements(y.shape), ++seed), y.gradient_dtype)));
  }
  const auto w = random<float>(elements, ++seed, 0.2);
  const size_t gradient_bytes = sizeof(float) * static_cast<size_t>(elements);
  float* gradient = static_cast<float*>(place.poisoned(gradient_bytes));
  e.bind_flat(static_cast<float*>(place.put(storage(w, DType::F32))),
              static_cast<bf16*>(place.put(storage(w, DType::BF16))), gradient);
  const size_t stats_bytes = sizeof(kernels::AttentionStats) * static_cast<size_t>(g.attentions());
  auto* stats = static_cast<kernels::AttentionStats*>(place.poisoned(stats_bytes));
  e.run(statistics ? stats : nullptr, nullptr);

  std::vector<Result> results;
  const auto read = [&](std::string name, Ref r) {
    const auto& v = g[r];
    const size_t bytes = static_cast<size_t>(graph::elements(v.shape)) * size_of(v.dtype);
    results.push_back({std::move(name), numbers(place.get(e.data(r), bytes), v.dtype)});
  };
  for (Ref y : outputs) read("output", y);
  for (Ref in : inputs)
    if (Ref d = g.reverse().of(in)) read("d " + g[in].name, d);
  const auto all = numbers(place.get(gradient, gradient_bytes), DType::F32);
  for (Ref weight : weights) {
    const auto at = all.begin() + g[weight].offset;
    results.push_back({"d weight", {at, at + graph::elements(g[weight].shape)}});
  }
  const auto raw = place.get(stats, stats_bytes);
  for (int i = 0; statistics && i < g.attentions(); ++i) {
    kernels::AttentionStats s;
    std::memcpy(&s, raw.data() + i * sizeof s, sizeof s);
    for (const auto& of : s.streams)
      results.push_back(
          {"statistics",
           {of.max_abs_logit, static_cast<float>(of.entropy_sum), static_cast<float>(of.rows)}});
  }
  return results;
}

std::vector<OpCase> table(DType residual, DType t, bool large) {
  using namespace ops;
  constexpr DType single = DType::F32;
  std::vector<OpCase> all;
  for (auto [rows, in, out] :
       {std::array<int64_t, 3>{1, 64, 64}, {7, 64, 128}, {33, 128, 192}, {large ? 1178 : 70, 256, 64}})
    for (DType to : {t, single})
      all.push_back({text("linear ", rows, "x", in, "x", out, " to ", name_of(to)),
                     {{{rows, in}, t}},
                     {{{out, in}, t}, {{out}, single}},
                     [=](Graph& g, const auto& x, const auto& w) {
                       return std::vector{linear(g, x[0], {w[0], w[1]}, to)};
                     }});
  all.push_back({"linear, twice of one input",
                 {{{6, 64}, single}},
                 {{{64, 64}, t}, {{64}, single}, {{128, 64}, t}, {{128}, single}},
                 [=](Graph& g, const auto& x, const auto& w) {
                   Ref c = silu(g, x[0], t);  // its gradient accumulates in fp32
                   return std::vector{linear(g, c, {w[0], w[1]}, single), linear(g, c, {w[2], w[3]}, single)};
                 }});
  for (auto [rows, in, hidden] :
       {std::array<int64_t, 3>{1, 64, 128}, {33, 64, 256}, {large ? 1178 : 70, 192, 64}})
    all.push_back(
        {text("mlp ", rows, "x", in, "x", hidden),
         {{{rows, in}, t}},
         {{{hidden, in}, t}, {{hidden}, single}, {{in, hidden}, t}, {{in}, single}},
         [=](Graph& g, const auto& x, const auto& w) {
           return std::vector{linear(g, linear_gelu(g, x[0], {w[0], w[1]}, true, 1), {w[2], w[3]}, t)};
         }});
  const int64_t wide = large ? 1536 : 192;
  for (auto [samples, tokens, width] :
       {std::array<int64_t, 3>{1, 1, 64}, {2, 7, 128}, {3, large ? 1024 : 70, wide}}) {
    const std::string dims = text(samples, "x", tokens, "x", width);
    all.push_back({"layer_norm_modulate " + dims,
                   {{{samples * tokens, width}, residual}, {{samples, 2 * width}, single}},
                   {},
                   [=](Graph& g, const auto& x, const auto&) {
                     return std::vector{gate_norm(g, x[0], {}, {}, {x[1], 0}, samples, t, 0).second};
                   }});
    all.push_back(
        {"gate_residual " + dims,
         {{{samples * tokens, width}, residual}, {{samples * tokens, width}, t}, {{samples, width}, single}},
         {},
         [=](Graph& g, const auto& x, const auto&) {
           return std::vector{gate_residual(g, x[0], x[1], {x[2], 0}, samples)};
         }});
    all.push_back({"dual adaLN " + dims,  // two norms of one residual, as in a dual-attention block
                   {{{samples * tokens, width}, residual}, {{samples, 6 * width}, single}},
                   {},
                   [=](Graph& g, const auto& in, const auto&) {
                     Ref x = in[0], m = in[1];
                     Ref a = gate_norm(g, x, {}, {}, {m, 0}, samples, t, 0).second;
                     Ref b = gate_norm(g, x, {}, {}, {m, 3}, samples, t, 0).second;
                     x = gate_residual(g, x, gelu(g, a), {m, 2}, samples);
                     return std::vector{gate_residual(g, x, gelu(g, b), {m, 5}, samples)};
                   }});
    all.push_back(
        {"gate_norm " + dims,  // from one block, with its modulation, to the next
         {{{samples * tokens, width}, residual},
          {{samples * tokens, width}, t},
          {{samples, width}, single},
          {{samples, 2 * width}, single}},
         {},
         [=](Graph& g, const auto& in, const auto&) {
           const auto [x, normed] = gate_norm(g, in[0], in[1], {in[2], 0}, {in[3], 0}, samples, t, 0);
           return std::vector{normed, x};
         }});
  }
  for (int64_t n : {1, 21, large ? 4000000 : 1000}) {
    const Shape s{n, 3};
    all.push_back({text("gelu ", n), {{s, t}}, {}, [](Graph& g, const auto& x, const auto&) {
                     return std::vector{gelu(g, x[0])};
                   }});
    all.push_back({text("silu ", n), {{s, single}}, {}, [=](Graph& g, const auto& x, const auto&) {
                     return std::vector{silu(g, x[0], t)};
                   }});
    all.push_back({text("add ", n), {{s, t}, {s, t}}, {}, [](Graph& g, const auto& x, const auto&) {
                     return std::vector{add(g, x[0], x[1])};
                   }});
  }
  struct Attention {
    int64_t samples, heads, context, image;
    bool norm, pre_only;
  };
  std::vector<Attention> attentions{{1, 1, 1, 1, false, false},  {2, 2, 5, 9, true, false},
                                    {1, 2, 8, 16, false, false}, {2, 1, 7, 33, true, true},
                                    {1, 3, 0, 40, true, false},  {1, 1, 11, 70, false, true},
                                    {1, 1, 77, 130, true, false}};
  if (large)
    attentions.insert(attentions.end(), {{2, 3, 154, 1024, true, false}, {1, 2, 154, 4096, true, true}});
  for (const auto& a : attentions) {
    const int64_t h = a.heads * 64;
    std::vector<Operand> inputs, weights;
    if (a.context) inputs.push_back({{a.samples * a.context, 3 * h}, t});
    inputs.push_back({{a.samples * a.image, 3 * h}, t});
    if (a.norm) weights.assign(2 * inputs.size(), {{64}, single});
    all.push_back(
        {text("joint_attention ", a.samples, "x", a.heads, " heads, ", a.context, "+", a.image,
              a.norm ? ", norm" : "", a.pre_only ? ", pre-only" : ""),
         inputs, weights, [=](Graph& g, const auto& x, const auto& w) {
           std::vector<AttentionStream> streams;
           for (size_t i = 0; i < x.size(); ++i) {
             const int64_t tokens = i + 1 == x.size() ? a.image : a.context;
             streams.push_back({x[i], tokens, a.norm ? w[2 * i] : Ref{}, a.norm ? w[2 * i + 1] : Ref{}});
           }
           std::vector<Ref> outputs;
           for (Ref r : joint_attention(g, streams, a.samples, a.heads, a.pre_only))
             if (r) outputs.push_back(r);
           return outputs;
         }});
  }
  for (auto [c, hh, ww, p] : {std::array<int64_t, 4>{16, 8, 12, 2}, {4, 6, 4, 2}, {3, 5, 7, 1}}) {
    const std::string dims = text(c, "x", hh, "x", ww);
    all.push_back(
        {"patchify " + dims, {{{2, c, hh, ww}, single}}, {}, [=](Graph& g, const auto& x, const auto&) {
           return std::vector{patchify(g, x[0], p, t)};
         }});
    all.push_back({"unpatchify " + dims,
                   {{{2 * (hh / p) * (ww / p), p * p * c}, single}},
                   {},
                   [=](Graph& g, const auto& x, const auto&) {
                     return std::vector{unpatchify(g, x[0], 2, c, hh, ww, p)};
                   }});
  }
  all.push_back({"add_position",
                 {{{2 * 12, 64}, t}, {{12, 64}, single}},
                 {},
                 [=](Graph& g, const auto& x, const auto&) {
                   return std::vector{add_position(g, x[0], x[1], 2, residual)};
                 }});
  all.push_back({"timestep_embedding", {{{5}, single}}, {}, [=](Graph& g, const auto& x, const auto&) {
                   return std::vector{timestep_embedding(g, x[0], t)};
                 }});
  return all;
}

void check_same(const std::vector<Result>& a, const std::vector<Result>& b, const std::string& at) {
  for (size_t i = 0; i < a.size() && i < b.size(); ++i)
    CHECK(a[i].values.size() == b[i].values.size() &&
              std::memcmp(a[i].values.data(), b[i].values.data(), sizeof(float) * a[i].values.size()) == 0,
          at, ", ", a[i].name);
}

/// Compares with the CPU, two runs with each other, and one without statistics.
void check_case(const OpCase& c, graph::Device& device, DType t, const std::string& at) {
  const auto want = run(c, nullptr), got = run(c, &device);
  emulate::backwards = true;  // exposes dependence on the order of threads, if emulated
  const auto again = run(c, &device);
  emulate::backwards = false;
  CHECK(got.size() == want.size() && again.size() == want.size(), at);
  check_same(got, again, at + ": two runs differ");
  if (got.back().name == "statistics")
    check_same(run(c, &device, false), got, at + ": statistics change the result");
  for (size_t i = 0; i < want.size() && i < got.size(); ++i) {
    const int64_t n = static_cast<int64_t>(want[i].values.size());
    CHECK(got[i].values.size() == want[i].values.size(), at);
    // Both round to bf16 at the same places; if their sums differ in the last bits, so may a rounding.
    CHECK_CLOSE(relative_error(got[i].values, want[i].values, n), t == DType::F32 ? 2e-5 : 6e-3, at, ", ",
                want[i].name);
  }
}

TEST("device: operations against the CPU") {
  for (const TestedDevice& d : devices())
    for (auto [residual, t] :
         {std::pair{DType::F32, DType::F32}, {DType::BF16, DType::BF16}, {DType::F32, DType::BF16}})
      for (const OpCase& c : table(residual, t, d.large))
        check_case(c, d.device, t,
                   text(d.name, ", residual ", name_of(residual), ", ", name_of(t), ": ", c.name));
}

/// Chooses the library of the emulated device.
struct Emulated {
  explicit Emulated(emulate::Library l) { emulate::library = l; }
  ~Emulated() { emulate::library = emulate::Library::None; }
};

std::vector<OpCase> attentions() {
  auto all = table(DType::BF16, DType::BF16, false);
  std::erase_if(all, [](const OpCase& c) { return !c.name.starts_with("joint_attention"); });
  return all;
}

/// The emulated device is no Hopper.
struct WithoutWarpgroups {
  WithoutWarpgroups() { emulate::warpgroups = false; }
  ~WithoutWarpgroups() { emulate::warpgroups = true; }
};

TEST("device: attention without Hopper's warpgroups against the CPU") {
  const WithoutWarpgroups other;
  graph::Device& device = kernels::cuda::emulated_device();
  for (const OpCase& c : attentions()) check_case(c, device, DType::BF16, "without warpgroups: " + c.name);
}

TEST("device: on Hopper a library computes attention only if it is demanded") {
  const Emulated library(emulate::Library::NotDemanded);
  graph::Device& device = kernels::cuda::emulated_device();
  const kernels::AttentionDims d{2, 2, 14, 0, 5};
  for (bool backward : {false, true}) CHECK(device.attention_by(d, backward) == "own kernels for Hopper");
  const WithoutWarpgroups other;
  for (bool backward : {false, true}) CHECK(device.attention_by(d, backward) == "an emulated library");
}

TEST("device: attention by a library against the CPU") {
  const Emulated library(emulate::Library::Right);
  graph::Device& device = kernels::cuda::emulated_device();
  for (const OpCase& c : attentions()) check_case(c, device, DType::BF16, "by a library: " + c.name);
  for (bool backward : {false, true})
    CHECK(device.attention_by({2, 2, 14, 0, 5}, backward) == "an emulated library");
}

TEST("device: a library without a plan, or whose results are not right, does not serve") {
  graph::Device& device = kernels::cuda::emulated_device();
  const auto own = [](const std::string& why) { return "own kernels (" + why + ")"; };
  const kernels::AttentionDims d{2, 2, 14, 0, 5};
  CHECK(device.attention_by(d, true) == "own kernels for Hopper");
  const WithoutWarpgroups other;
  CHECK(device.attention_by(d, true) == own("no library is emulated"));
  const OpCase c = attentions()[1];
  const auto want = run(c, &device);
  for (auto [fault, why] : {std::pair{emulate::Library::NoPlan, "no engine supports this graph"},
                            {emulate::Library::Wrong, "its results differ from those of the own kernels"},
                            {emulate::Library::Unsteady, "its bits differ from run to run"}}) {
    const Emulated library(fault);
    check_same(run(c, &device), want, text("with a library that is refused: ", why));
    for (bool backward : {false, true}) {
      const std::string by = device.attention_by(d, backward);
      CHECK(by == own(text("an emulated library: ", why)), by);
    }
  }
}

TEST("device: GPUs on which kernels run that were built for others") {
  using kernels::cuda::runs_on;
  CHECK(runs_on("90 80-ptx", 90) && runs_on("90 80-ptx", 86) && runs_on("90 80-ptx", 120));
  CHECK(!runs_on("90 80-ptx", 75) && !runs_on("90", 86) && !runs_on("86", 80) && !runs_on("90", 100));
  CHECK(runs_on("80", 86) && runs_on("86 90", 89));
  CHECK(runs_on("90a 80-ptx", 90) && runs_on("90a 80-ptx", 100) && !runs_on("90a", 100));
  using kernels::cuda::built_for_warpgroups;
  CHECK(built_for_warpgroups("80 90a 120-ptx", 90) && built_for_warpgroups("90a", 90));
  CHECK(!built_for_warpgroups("90a 80-ptx", 100) && !built_for_warpgroups("90 80-ptx", 90));
}

}  // namespace
}  // namespace orch::test
