// The tree of sums, the memory plan, and the independence of a step from the number of threads.
#include "../engine/engine.h"

#include <cstring>
#include <map>
#include <random>
#include <set>

#include "../engine/gradient_sums.h"
#include "../graph/executor.h"
#include "devices.h"
#include "driver.h"
#include "harness.h"
#include "tree.h"

namespace {

using namespace orch;

TEST("gradient sums: any range of slots has the sums of the tree's subtrees, on every device") {
  const int64_t length = 64;
  const std::vector<Bucket> buckets{{0, 16}, {16, 48}};
  std::vector<test::TestedDevice> devices = test::devices();
  devices.push_back({"cpu", graph::cpu_device(), false, false});
  std::mt19937 random(5);
  for (const test::TestedDevice& d : devices)
    for (int64_t total = 1; total <= 9; ++total) {
      const auto leaves = test::random_leaves(total, length, random);
      for (int64_t first = 0; first < total; ++first)
        for (int64_t end = first + 1; end <= total; ++end) {
          const std::string at = test::text(d.name, ", total ", total, ", slots ", first, " to ", end);
          GradientSums sums(d.device, length, buckets);
          std::vector<int> announced;
          sums.begin(first, end, total, [&](int b) { announced.push_back(b); });
          // Slots in random order, as threads would finish them; the buckets of one slot in order.
          std::vector<int64_t> order;
          for (int64_t s = first; s < end; ++s) order.push_back(s);
          std::shuffle(order.begin(), order.end(), random);
          for (int64_t s : order) {
            float* buffer = sums.acquire();
            for (int b = 0; b < 2; ++b) {
              d.device.upload(buffer + buckets[b].offset, &leaves[s][buckets[b].offset],
                              sizeof(float) * buckets[b].length);
              d.device.synchronize();
              sums.complete(s, buffer, b);
            }
          }
          CHECK((announced == std::vector<int>{0, 1}), at, ": announced out of order");
          int64_t next = first;
          for (const auto& part : sums.parts()) {
            CHECK(part.lo == next, at, ": parts must be contiguous");
            next = part.hi;
            std::vector<float> got(length);
            d.device.download(got.data(), part.data, sizeof(float) * length);
            CHECK(got == test::part_sum(leaves, part.lo, part.hi), at, ": part ", part.lo, " to ", part.hi);
          }
          CHECK(next == end, at, ": parts must cover the slots");
        }
    }
}

ModelSpec small_model(bool dual) {
  return {3, 2, 2, 4, 48, 32, 8, true, dual ? std::vector<int64_t>{0, 1} : std::vector<int64_t>{}};
}

TEST("memory plan: values that are alive at the same time do not overlap") {
  for (bool backward : {false, true})
    for (DType t : {DType::F32, DType::BF16}) {
      const ModelSpec spec = small_model(true);
      const ParameterTable parameters(spec);
      auto built = build_model(spec, parameters, {2, 8, 6, 5}, {t, DType::F32, backward, backward});
      const auto& g = built->graph;
      const size_t n = g.values().size();
      std::vector<int64_t> first(n, -1), last(n, -1);
      std::set<std::pair<size_t, size_t>> in_place;
      for (size_t i = 0; i < g.nodes().size(); ++i) {
        const auto use = [&](graph::Ref r) {
          if (!r) return;
          if (first[r.index] < 0) first[r.index] = static_cast<int64_t>(i);
          last[r.index] = static_cast<int64_t>(i);
        };
        for (auto r : g.nodes()[i].inputs) use(r);
        for (auto r : g.nodes()[i].outputs) use(r);
      }
      // An operation may overwrite an input that it reads for the last time, if it says so.
      for (size_t i = 0; i < g.nodes().size(); ++i) {
        const auto& node = g.nodes()[i];
        for (size_t k = 0; k < node.op->in_place.size(); ++k) {
          const int at = node.op->in_place[k];
          if (at < 0 || !node.inputs[at]) continue;
          const int32_t from = node.inputs[at].index, to = node.outputs[k].index;
          if (last[from] == static_cast<int64_t>(i) && first[to] == static_cast<int64_t>(i))
            in_place.emplace(std::min(from, to), std::max(from, to));
        }
      }
      int64_t pairs = 0, sum = 0;
      for (size_t a = 0; a < n; ++a) {
        const auto& va = g.values()[a];
        if (va.kind != graph::Kind::Activation || first[a] < 0) continue;
        const int64_t bytes = graph::elements(va.shape) * static_cast<int64_t>(size_of(va.dtype));
        sum += bytes;
        CHECK(va.offset >= 0 && va.offset + bytes <= static_cast<int64_t>(g.arena_bytes()), va.name);
        const int64_t end = va.keep ? INT64_MAX : last[a];
        for (size_t b = a + 1; b < n; ++b) {
          const auto& vb = g.values()[b];
          if (vb.kind != graph::Kind::Activation || first[b] < 0) continue;
          const int64_t other = graph::elements(vb.shape) * static_cast<int64_t>(size_of(vb.dtype));
          const bool together = first[a] <= (vb.keep ? INT64_MAX : last[b]) && first[b] <= end;
          const bool apart =
              va.offset + bytes <= vb.offset || vb.offset + other <= va.offset || in_place.contains({a, b});
          if (together) ++pairs;
          CHECK(!together || apart, va.name, " and ", vb.name);
        }
      }
      CHECK(in_place.size() > 5, "little is written in place: ", in_place.size());
      CHECK(pairs > 100, "the graph is too small to say anything");
      CHECK(static_cast<int64_t>(g.arena_bytes()) < sum, "memory is reused");
    }
}

/// Loss and flat gradient of one random case.
std::vector<float> case_gradient(const ModelSpec& spec, const ParameterTable& table, DType t, Recompute level,
                                 size_t* arena) {
  auto built = build_model(spec, table, {2, 8, 6, 5}, {t, t, true, false, level});
  *arena = built->graph.arena_bytes();
  graph::Executor e(built->graph);
  std::mt19937 random(21);
  std::normal_distribution<float> normal(0, 0.1f);
  const auto floats = [&](int64_t n, float scale) {
    std::vector<float> v(static_cast<size_t>(n));
    for (float& x : v) x = scale * normal(random);
    return v;
  };
  auto weights = floats(table.length, 1), z = floats(2 * 4 * 8 * 6, 10), target = floats(2 * 4 * 8 * 6, 10);
  auto positions = floats(12 * spec.hidden(), 5), context = floats(2 * 5 * 48, 10),
       pooled = floats(2 * 32, 10);
  std::vector<float> timestep{100, 800}, scale{0.5f, 0.5f}, gradient(weights.size() + 2, 0.0f);
  std::vector<bf16> weights16, context16, pooled16;
  for (float w : weights) weights16.push_back(to_bf16(w));
  for (float c : context) context16.push_back(to_bf16(c));
  for (float p : pooled) pooled16.push_back(to_bf16(p));
  const bool half = t == DType::BF16;
  void* inputs[kInputs] = {z.data(),
                           timestep.data(),
                           half ? static_cast<void*>(context16.data()) : context.data(),
                           half ? static_cast<void*>(pooled16.data()) : pooled.data(),
                           positions.data(),
                           target.data(),
                           scale.data()};
  for (int64_t i = 0; i < kInputs; ++i) e.bind_input(i, inputs[i]);
  e.bind_flat(weights.data(), weights16.data(), gradient.data());
  e.run(nullptr, nullptr);
  std::memcpy(&gradient[weights.size()], e.data(built->loss), 2 * sizeof(float));
  return gradient;
}

TEST("activation checkpointing changes no bit") {
  for (bool dual : {false, true})
    for (DType t : {DType::F32, DType::BF16}) {
      const ModelSpec spec = small_model(dual);
      const ParameterTable table(spec);
      std::vector<float> want;
      size_t before = SIZE_MAX;
      for (Recompute level : {Recompute::Nothing, Recompute::Norms, Recompute::Mlp, Recompute::Block}) {
        const std::string at = test::text(name_of(t), " level ", static_cast<int>(level));
        size_t arena = 0;
        const auto got = case_gradient(spec, table, t, level, &arena);
        if (want.empty()) want = got;
        CHECK(std::memcmp(want.data(), got.data(), want.size() * sizeof(float)) == 0, at);
        CHECK(arena < before, at, ": ", arena, " bytes, before ", before);
        before = arena;
      }
    }
}

TEST("gates are computed with the norm after them") {
  const ModelSpec spec = small_model(true);  // three blocks, the first two dual
  const ParameterTable table(spec);
  for (Recompute level : {Recompute::Nothing, Recompute::Norms, Recompute::Mlp, Recompute::Block}) {
    auto built = build_model(spec, table, {2, 8, 6, 5}, {DType::F32, DType::F32, true, false, level});
    std::map<std::string, int> count;
    for (const auto& n : built->graph.nodes()) ++count[n.op->name];
    // Gates: 3 + 3 + 2 of the image stream, 2 + 2 of the text stream. All are followed by a norm, except the
    // first of a dual block, and of a block's last gate if whole blocks are recomputed. (The backward pass
    // has as many as the forward pass; recomputation adds those within blocks again.)
    const bool blocks = level == Recompute::Block;
    const std::string at = test::text("level ", static_cast<int>(level));
    CHECK(count["gate, residual, layer norm, modulate"] == 10, at, ": ",
          count["gate, residual, layer norm, modulate"]);
    CHECK(count["gate, residual"] == (blocks ? 9 : 2), at, ": ", count["gate, residual"]);
    CHECK(count["gate, residual, layer norm, modulate backward"] == (blocks ? 5 : 10), at, ": ",
          count["gate, residual, layer norm, modulate backward"]);
    CHECK(count["gate, residual backward"] == (blocks ? 7 : 2), at, ": ", count["gate, residual backward"]);
  }
}

/// Replaces the initial zeros, so that every path has a gradient.
void fill_weights(Engine& e) {
  std::mt19937 random(11);
  std::normal_distribution<float> normal(0, 0.1f);
  for (const Parameter& p : e.table().parameters)
    for (int64_t i = 0; i < p.length; ++i) e.state(State::Master)[p.offset + i] = normal(random);
}

TEST("a case has the same bits with any number of threads, and one slot's gradient is its case's") {
  for (DType t : {DType::F32, DType::BF16}) {
    std::vector<std::vector<float>> velocities;
    for (int threads : {1, 2, 3}) {
      EngineSpec spec{small_model(true), {2, 8, 6, 5}, t, t, threads, false, false};
      Engine e(spec);
      fill_weights(e);
      std::mt19937 random(3);
      std::normal_distribution<float> normal;
      RawBatch batch;
      const int64_t count = 7;  // not a multiple of the micro-batch
      auto fill = [&](std::vector<float>& v, int64_t n) {
        for (int64_t i = 0; i < n; ++i) v.push_back(normal(random));
      };
      fill(batch.z, count * e.latent_elements());
      for (int64_t i = 0; i < count; ++i) batch.timestep.push_back(140.0f * static_cast<float>(i));
      fill(batch.context, count * e.context_elements());
      fill(batch.pooled, count * 32);
      velocities.push_back(test::on_driver(e, [&] {
        e.parameters_changed();
        return e.predict(batch, State::Master);
      }));
    }
    CHECK(velocities[0] == velocities[1] && velocities[0] == velocities[2], name_of(t));
    double norm = 0;
    for (float v : velocities[0]) norm += v * v;
    CHECK(norm > 1, "the velocity is not trivial");
  }
}

}  // namespace
