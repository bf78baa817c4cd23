// An engine on a GPU: its steps compared with those of the CPU's engine.
#include <cstring>
#include <future>
#include <random>

#include "devices.h"
#include "driver.h"
#include "engine/engine.h"
#include "engine/query_key_rms.h"
#include "training_set.h"

namespace orch::test {
namespace {

struct Series {
  std::vector<float> losses, weights, ema, evaluated, saved, rms;
  std::vector<double> norms, entropy, block_norms, distances;
  std::vector<int> buckets;
};

/// The parameters in two parts.
Ranges halves(const Engine& e) {
  const int64_t middle = e.table().parameters[e.table().parameters.size() / 2].offset;
  return {{0, middle}, {middle, e.table().length}};
}

/// One step of three slots.
void take_step(Engine& e, int64_t step, bool statistics, std::optional<SampleBatch> next, Series& s) {
  AccumulateRequest r{{}, 3, 1.0f / 6, 99, static_cast<uint32_t>(step), statistics, std::move(next)};
  for (int64_t slot = 0; slot < 3; ++slot) r.slots.push_back({slot, batch(step + 2 * slot)});
  const auto result = e.accumulate(r, [&](int b) { s.buckets.push_back(b); });
  for (const auto& slot : result.losses) s.losses.insert(s.losses.end(), slot.begin(), slot.end());
  for (const auto& a : result.attention) {
    s.entropy.push_back(a.mean_entropy);
    s.entropy.push_back(a.max_abs_logit);
    s.entropy.push_back(static_cast<double>(a.rows));
  }
  const double norm = e.gradient_norm().norm;
  s.norms.push_back(norm);
  e.update({step, 1e-3, 0.9, 0.99, 1e-8, 0.01, std::min(1.0, 1.0 / norm), 0.9});
}

std::vector<float> values_of(Engine& e, State state) {
  const float* values = e.state(state);
  return {values, values + e.table().length};
}

/// Trains three steps and evaluates.
Series train(Engine& e, const TrainingSet& set) {
  e.attach(set.data, kText);
  return on_driver(e, [&] {
    Series s;
    random_start(e);
    for (int64_t step = 1; step <= 3; ++step) {
      take_step(e, step, true, std::nullopt, s);
      for (double n : e.gradient_norms(halves(e))) s.block_norms.push_back(n);
      s.distances.push_back(e.ema_distance());
    }
    s.evaluated = e.evaluate(batch(5), State::Ema, 99, 50);
    RawBatch raw;  // one sample more than a slot has
    std::mt19937 random(12);
    std::normal_distribution<float> normal(0, 0.1f);
    for (int64_t i = 0; i < 3; ++i) raw.timestep.push_back(300.0f * static_cast<float>(i));
    for (auto [values, n] : {std::pair{&raw.z, e.latent_elements()},
                             {&raw.context, e.context_elements()},
                             {&raw.pooled, e.spec().model.pooled_dim}})
      for (int64_t i = 0; i < 3 * n; ++i) values->push_back(normal(random));
    for (const auto& q : query_key_rms(e, raw, State::Master)) {
      s.rms.push_back(static_cast<float>(q.query));
      s.rms.push_back(static_cast<float>(q.key));
    }
    s.weights = values_of(e, State::Master);
    s.ema = values_of(e, State::Ema);
    return s;
  });
}

TEST("device: an engine trains like the CPU's, with the same bits twice") {
  const ModelSpec model{2, 2, 2, 4, 48, 32, 8, true, {0}};
  const TrainingSet set(4 * 8 * 6);
  for (const TestedDevice& d : devices())
    for (auto [residual, t] :
         {std::pair{DType::F32, DType::F32}, {DType::BF16, DType::BF16}, {DType::F32, DType::BF16}}) {
      const EngineSpec spec{model, {2, 8, 6, 5}, t, residual, 1, true, true, Recompute::Norms};
      Engine cpu(spec);
      const Series want = train(cpu, set);
      const auto run = [&] {
        Engine e(spec, d.device);
        return train(e, set);
      };
      const Series got = run();
      const std::string at = text(d.name, ", residual ", name_of(residual), ", ", name_of(t));
      // The emulator, which is slow, runs threads in one order; there, warm steps (below) have the bits of
      // first.
      if (d.real) {
        const Series again = run();
        CHECK(got.weights == again.weights && got.losses == again.losses && got.norms == again.norms, at,
              ": two runs differ");
      }
      CHECK(got.buckets == want.buckets, at);
      const auto compare = [&](const auto& a, const auto& b, double bound, const char* what) {
        CHECK(a.size() == b.size() && !a.empty(), at, ", ", what);
        CHECK_CLOSE(relative_error(a, b, static_cast<int64_t>(b.size())), bound, at, ", ", what);
      };
      const double loose = t == DType::F32 ? 1e-5 : 1e-2;
      compare(got.losses, want.losses, loose, "losses");
      compare(got.norms, want.norms, loose, "gradient norms");
      compare(got.block_norms, want.block_norms, loose, "gradient norms of ranges");
      compare(got.distances, want.distances, loose, "distance of the EMA");
      compare(got.entropy, want.entropy, loose, "attention statistics");
      compare(got.evaluated, want.evaluated, loose, "evaluation");
      compare(got.rms, want.rms, loose, "queries and keys");
      // A step changes a weight by about the learning rate, whatever the gradient's magnitude, and the signs
      // of the smallest gradients may differ.
      compare(got.weights, want.weights, t == DType::F32 ? 2e-3 : 1e-2, "weights");
      compare(got.ema, want.ema, t == DType::F32 ? 2e-3 : 1e-2, "EMA");
    }
}

TEST("device: host copies of the state are current, snapshots are kept, and writes are uploaded") {
  const TrainingSet set(4 * 8 * 6);
  const EngineSpec spec{
      {1, 1, 2, 4, 48, 32, 8, true, {}}, {1, 8, 6, 5}, DType::F32, DType::F32, 1, true, true};
  for (const TestedDevice& d : devices()) {
    Engine e(spec, d.device);
    e.attach(set.data, kText);
    const int64_t n = e.table().length;
    const auto step = [&](int64_t number) {
      SampleBatch b{{number}, {0}, {0}, {0.6f, 0.4f, -1, 1, 1, 400}, {1}};
      e.accumulate({{{0, b}}, 1, 1, 99, static_cast<uint32_t>(number), false}, [](int) {});
      CHECK(e.parts().size() == 1 && e.parts()[0].data == nullptr, "nothing has to be exchanged");
      e.update({number, 1e-2, 0.9, 0.99, 1e-8, 0.01, 1, 0.9});
    };
    const auto values = [&](State s) { return std::vector<float>(e.state(s), e.state(s) + n); };
    using States = std::vector<std::vector<float>>;
    const States before = on_driver(e, [&] {
      e.initialize(3);
      States all{values(State::Master)};
      step(1);
      for (State s : e.states()) all.push_back(values(s));
      return all;
    });
    CHECK(before[0] != before[1] && before[1] != before[2], "an update shows in the copies");
    std::promise<std::exception_ptr> copied;
    e.pool().post([&] { e.snapshot([&](std::exception_ptr why) { copied.set_value(why); }); });
    CHECK(!copied.get_future().get(), "the snapshot fails");
    on_driver(e, [&] {
      step(2);
      CHECK(values(State::Master) != before[1], "a second update");
      for (int s = 0; s < 4; ++s)
        CHECK(std::memcmp(e.snapshot_of(static_cast<State>(s), 0),
                          &before[s + 1][e.table().parameters[0].offset],
                          (n - e.table().parameters[0].offset) * sizeof(float)) == 0,
              "state ", s, " of the snapshot");
      // Only what was written is uploaded: m, which was copied before, is not restored.
      const auto m = values(moment(0));
      step(3);
      std::copy(before[0].begin(), before[0].end(), e.state(State::Master));
      e.parameters_changed();
      CHECK(values(moment(0)) != m, "m is what the third step left");
      step(4);
      CHECK(values(State::Master) != before[0], "training goes on");
      return 0;
    });
    CHECK(e.device_bytes() > static_cast<size_t>(5 * n) * sizeof(float), "weights, EMA, m, v, a gradient");
    bool refused = false;
    try {
      e.join(nullptr, 0);
    } catch (const Error& error) {
      refused = std::string(error.code()) == "ERR_SHARED_MEMORY";
    }
    CHECK(refused, "a device shares no memory");
  }
}

TEST("device: warm steps replay recordings, allocate nothing, and have the bits of the first") {
  const TrainingSet set(4 * 8 * 6);
  const EngineSpec spec{
      {2, 2, 2, 4, 48, 32, 8, true, {0}}, {2, 8, 6, 5}, DType::BF16, DType::BF16, 1, true, true};
  for (const TestedDevice& d : devices()) {
    Engine warm(spec, d.device);
    warm.attach(set.data, kText);
    Series before;
    on_driver(warm, [&] {
      random_start(warm);
      for (int64_t step = 1; step <= 3; ++step) take_step(warm, step, false, batch(step + 1), before);
      return 0;
    });
    // The first slot of the fourth step was prefetched; that of the fifth differs from what was prefetched.
    for (int64_t step : {4, 5}) {
      const std::string at = text(d.name, ", step ", step);
      std::vector<float> start[4];
      Series got, want;
      on_driver(warm, [&] {
        for (int s = 0; s < 4; ++s) start[s] = values_of(warm, static_cast<State>(s));
        d.device.take_launches();
        take_step(warm, step, false, batch(7), got);
        const auto l = d.device.take_launches();
        CHECK(l.allocations == 0, at, ": ", l.allocations, " allocations");
        // Replays: three slots, the norm and the update. Other launches: the noise of each slot, and the two
        // sums of gradients.
        CHECK(l.replays == 3 + 1 + 1, at, ": ", l.replays, " recordings");
        CHECK(l.count == 3 + 2, at, ": ", l.count, " other launches");
        got.weights = values_of(warm, State::Master);
        got.ema = values_of(warm, State::Ema);
        return 0;
      });
      Engine fresh(spec, d.device);
      fresh.attach(set.data, kText);
      on_driver(fresh, [&] {
        for (int s = 0; s < 4; ++s)
          std::copy(start[s].begin(), start[s].end(), fresh.state(static_cast<State>(s)));
        fresh.parameters_changed();
        take_step(fresh, step, false, std::nullopt, want);
        want.weights = values_of(fresh, State::Master);
        want.ema = values_of(fresh, State::Ema);
        return 0;
      });
      CHECK(got.weights == want.weights && got.ema == want.ema && got.losses == want.losses &&
                got.norms == want.norms,
            at, ": differs from a first one");
      CHECK(got.weights != start[0], at, ": nothing was learned");
    }
  }
}

TEST("device: random slots, steps and a profile, as the benches run them") {
  for (const TestedDevice& d : devices()) {
    Engine e({{2, 2, 2, 4, 48, 32, 8, true, {0}}, {2, 8, 6, 5}, DType::BF16, DType::BF16, 1, true, false},
             d.device);
    const auto norms = on_driver(e, [&] {
      std::vector<double> norms;
      e.random_weights();
      for (int64_t step = 1; step <= 3; ++step) {
        e.run_random_slots(step == 2 ? 3 : 1, step, step == 2);
        norms.push_back(e.gradient_norm().norm);
        e.update({step, 1e-3, 0.9, 0.99, 1e-8, 0.01, 1.0, 1});
      }
      return norms;
    });
    for (double n : norms) CHECK(std::isfinite(n) && n > 0, d.name, ": ", n);
    CHECK(norms[0] != norms[2], d.name, ": updates have an effect");
    const auto rows = on_driver(e, [&] { return e.profile(1); });
    double flops = 0;
    for (const auto& r : rows) flops += r.flops;
    CHECK(rows.size() > 15 && flops > e.flops() / 2, d.name);
  }
}

}  // namespace
}  // namespace orch::test
