// One slot on several threads gives the bits of one thread.
#include "../graph/executor.h"

#include <atomic>
#include <cstring>
#include <random>

#include "../core/error.h"
#include "../model/model.h"
#include "devices.h"
#include "harness.h"

namespace {

using namespace orch;

/// The loss and the flat gradient of one random case; then the same with statistics, where the gradient is
/// added to the former.
std::vector<float> gradient_of(const ParameterTable& table, const ModelGraph& built, DType t, int threads) {
  const graph::Graph& g = built.graph;
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  Buffer weights(table.length * sizeof(float)), copy(table.length * sizeof(bf16)),
      gradient(table.length * sizeof(float));
  for (int64_t i = 0; i < table.length; ++i) {
    weights.as<float>()[i] = 0.1f * normal(random);
    copy.as<bf16>()[i] = to_bf16(weights.as<float>()[i]);
  }
  graph::Executor executor(g, threads);
  std::vector<Buffer> inputs;
  for (const graph::Value& v : g.values()) {
    if (v.kind != graph::Kind::Input) continue;
    const int64_t n = graph::elements(v.shape);
    inputs.emplace_back(n * sizeof(float));
    for (int64_t i = 0; i < n; ++i) {
      const float x = normal(random);
      if (v.dtype == DType::F32)
        inputs.back().as<float>()[i] = x;
      else
        inputs.back().as<bf16>()[i] = to_bf16(x);
    }
    executor.bind_input(v.offset, inputs.back().data());
  }
  std::memset(gradient.data(), 0, gradient.bytes());
  for (const Parameter& p : table.parameters)  // what is not overwritten shows as NaN
    std::memset(gradient.as<float>() + p.offset, 0xff, sizeof(float) * p.length);
  std::vector<kernels::AttentionStats> statistics(g.attentions());
  std::vector<float> out;
  for (const bool with_statistics : {false, true}) {
    executor.bind_flat(weights.as<float>(), t == DType::BF16 ? copy.as<bf16>() : nullptr,
                       gradient.as<float>(), with_statistics);
    executor.run(with_statistics ? statistics.data() : nullptr, nullptr);
    const float* loss = static_cast<const float*>(executor.data(built.loss));
    out.insert(out.end(), loss, loss + g[built.loss].shape[0]);
    out.insert(out.end(), gradient.as<float>(), gradient.as<float>() + table.length);
  }
  for (const auto& s : statistics)
    for (const auto& of : s.streams)
      out.insert(out.end(), {of.max_abs_logit, static_cast<float>(of.entropy_sum)});
  return out;
}

TEST("executor: sharing a slot between threads changes no bit") {
  const ModelSpec spec{3, 2, 2, 4, 64, 32, 16, true, {0}};
  const ParameterTable table(spec);
  for (DType t : {DType::F32, DType::BF16})
    for (int64_t samples : {1, 3}) {
      const auto built = build_model(spec, table, {samples, 20, 18, 70}, {t, t, true});
      int64_t shared = 0;
      for (const auto& n : built->graph.nodes()) shared += n.op->parts > 1;
      CHECK(shared > 50, "too little is shared to say anything: ", shared);
      const auto alone = gradient_of(table, *built, t, 1);
      const int64_t run = samples + table.length;
      for (int64_t i = 0; i < run; ++i)
        CHECK(alone[run + i] == (i < samples ? 1 : 2) * alone[i], name_of(t), ", element ", i, ": ", alone[i],
              " and ", alone[run + i]);
      for (int threads : {2, 3, 5}) {
        const auto together = gradient_of(table, *built, t, threads);
        CHECK(std::memcmp(alone.data(), together.data(), alone.size() * sizeof(float)) == 0, name_of(t), ", ",
              samples, " samples, ", threads, " threads");
      }
    }
}

TEST("executor: an exception in one of several threads reaches the caller, and the threads stay usable") {
  for (const int64_t part : {0, 31, 63, -1}) {
    graph::Graph g(graph::cpu_backend());
    std::atomic<int64_t> done{0};
    g.append("failing in one of 64 parts", {}, {},
             [&](const graph::Run& run) {
               for (int64_t i = run.from; i < run.to; ++i) {
                 if (i == part) throw Error("ERR_TEST", "part " + std::to_string(i));
                 ++done;
               }
             },
             {.parts = 64});
    g.plan();
    graph::Executor executor(g, 3);
    for (int round = 0; round < 20; ++round) {
      std::string code;
      try {
        executor.run(nullptr, nullptr);
      } catch (const Error& e) {
        code = e.code();
      }
      CHECK(code == (part < 0 ? "" : "ERR_TEST"), "part ", part, " round ", round, ": ", code);
    }
    CHECK(part >= 0 || done == 20 * 64, done.load());
  }
}

TEST("executor: what is repeated outlives the call that recorded it, on every device") {
  std::vector<graph::Device*> all{&graph::cpu_device()};
  for (const test::TestedDevice& d : test::devices()) all.push_back(&d.device);
  for (graph::Device* d : all) {
    const Buffer memory = d->allocate(sizeof(float));
    graph::Repeated repeated;
    for (int i = 0; i < 4; ++i) {
      d->fill(memory.data(), 1, sizeof(float));
      // The work ends with this call.
      const auto work =
          std::make_unique<std::function<void()>>([d, to = memory.data()] { d->fill(to, 7, sizeof(float)); });
      repeated(*d, *work);
      char got[sizeof(float)];
      d->download(got, memory.data(), sizeof got);
      CHECK(got[0] == 7, d->describe().name, ", call ", i);
    }
  }
}

}  // namespace
