// An engine on a device: its tree of sums, and its steps against the CPU's engine.
#include "engine/device_engine.h"

#include <cstring>
#include <random>

#include "data_files.h"
#include "devices.h"
#include "driver.h"
#include "engine/host_engine.h"
#include "tree.h"

namespace orch::test {
namespace {

TEST("device: sums of gradients follow the tree over slots") {
  const int64_t length = 64;
  std::mt19937 random(5);
  for (const TestedDevice& d : devices())
    for (int64_t total = 1; total <= 9; ++total) {
      std::vector<std::vector<float>> leaves(total, std::vector<float>(length));
      for (auto& v : leaves)
        for (float& x : v) x = std::ldexp(static_cast<float>(random()), static_cast<int>(random() % 40) - 20);
      for (int64_t first = 0; first < total; ++first)
        for (int64_t end = first + 1; end <= total; ++end) {
          DeviceSums sums(d.device, length);
          sums.begin(first, end, total);
          for (int64_t s = first; s < end; ++s) {
            float* buffer = sums.acquire();
            d.device.upload(buffer, leaves[s].data(), sizeof(float) * length);
            d.device.synchronize();
            sums.complete(buffer);
          }
          int64_t at = first;
          for (const auto& part : sums.parts()) {
            CHECK(part.lo == at, "parts must be contiguous");
            at = part.hi;
            const auto want = part_sum(leaves, part.lo, part.hi);
            std::vector<float> got(length);
            d.device.download(got.data(), part.data, sizeof(float) * length);
            CHECK(want == got, d.name, " total ", total, " slots ", first, " to ", end, ": part ", part.lo,
                  " to ", part.hi);
          }
          CHECK(at == end, "parts must cover the slots");
        }
    }
}

const TextSpec kText{2, 3, 16, 24, 48, 16, 16};

/// Random rows of latents and text in one file.
struct Set {
  static constexpr int64_t kRows = 8;
  std::unique_ptr<TemporaryFile> file;
  std::shared_ptr<const Dataset> data;

  explicit Set(int64_t latent) {
    std::mt19937 random(2);
    std::normal_distribution<float> normal;
    std::vector<float> values;
    DatasetSpec spec;
    spec.rows = kRows;
    const auto column = [&](const char* role, int64_t width) {
      spec.columns.push_back(
          {role, DType::F32, width, {{0, 0, kRows, static_cast<int64_t>(values.size() * sizeof(float))}}});
      for (int64_t i = 0; i < kRows * width; ++i) values.push_back(normal(random));
    };
    column("latent", latent);
    column("original.clip_l", kText.clip_tokens * kText.clip_l_dim);
    column("original.clip_l_pooled", kText.clip_l_pooled_dim);
    column("original.clip_g", kText.clip_tokens * kText.clip_g_dim);
    column("original.clip_g_pooled", kText.clip_g_pooled_dim);
    column("original.t5", kText.t5_tokens * kText.t5_dim);
    file = std::make_unique<TemporaryFile>(values);
    spec.files.push_back({file->path(), static_cast<int64_t>(values.size() * sizeof(float))});
    data = std::make_shared<Dataset>(spec);
  }
};

struct Series {
  std::vector<float> losses, weights, ema, evaluated;
  std::vector<double> norms, entropy;
  std::vector<int> buckets;
};

/// Three steps of three slots, and an evaluation.
Series train(Engine& e, const Set& set) {
  e.attach(set.data, kText);
  return on_driver(e, [&] {
    Series s;
    e.initialize(7);
    // Away from the initial zeros, so that every path carries a gradient.
    std::mt19937 random(11);
    std::normal_distribution<float> normal(0, 0.1f);
    for (State state : {State::Master, State::Ema}) {
      random.seed(11);
      float* const values = e.state(state);
      for (const Parameter& p : e.table().parameters)
        for (int64_t i = 0; i < p.length; ++i) values[p.offset + i] = normal(random);
    }
    e.parameters_changed();
    const auto batch = [&](int64_t from) {
      SampleBatch b;
      for (int64_t i = 0; i < 2; ++i) {
        b.rows.push_back((from + i) % Set::kRows);
        b.synthetic.push_back(0);
        b.dropped.push_back(from == 2 ? kDropT5 : 0);
        for (float c : {0.6f, 0.4f, -1.0f, 1.0f, 1.5f, 400.0f}) b.coefficients.push_back(c);
        b.sample_ids.push_back(static_cast<uint64_t>(from + i));
      }
      return b;
    };
    for (int64_t step = 1; step <= 3; ++step) {
      AccumulateRequest r{{}, 3, 1.0f / 6, 99, static_cast<uint32_t>(step), true};
      for (int64_t slot = 0; slot < 3; ++slot) r.slots.push_back({slot, batch(step + 2 * slot)});
      const auto result = e.accumulate(r, [&](int b) { s.buckets.push_back(b); });
      for (const auto& slot : result.losses) s.losses.insert(s.losses.end(), slot.begin(), slot.end());
      for (const auto& a : result.attention) {
        s.entropy.push_back(a.mean_entropy);
        s.entropy.push_back(a.max_abs_logit);
      }
      const double norm = e.gradient_norm().norm;
      s.norms.push_back(norm);
      e.update({step, 1e-3, 0.9, 0.99, 1e-8, 0.01, std::min(1.0, 1.0 / norm), 0.9});
    }
    s.evaluated = e.evaluate(batch(5), State::Ema, 99, 50);
    const int64_t n = e.table().length;
    s.weights.assign(e.state(State::Master), e.state(State::Master) + n);
    s.ema.assign(e.state(State::Ema), e.state(State::Ema) + n);
    return s;
  });
}

TEST("device: an engine trains as the CPU's does, and twice with the same bits") {
  const ModelSpec model{2, 2, 2, 4, 48, 32, 8, true, {0}};
  const Set set(4 * 8 * 6);
  for (const TestedDevice& d : devices())
    for (auto [residual, t] :
         {std::pair{DType::F32, DType::F32}, {DType::BF16, DType::BF16}, {DType::F32, DType::BF16}}) {
      const EngineSpec spec{model, {2, 8, 6, 5}, t, residual, 1, true, true, Recompute::Norms};
      HostEngine cpu(spec);
      const Series want = train(cpu, set);
      Series runs[2];
      for (Series& s : runs) {
        DeviceEngine e(spec, d.device);
        s = train(e, set);
      }
      const Series& got = runs[0];
      const std::string at = text(d.name, ", residual ", name_of(residual), ", ", name_of(t));
      CHECK(got.weights == runs[1].weights && got.losses == runs[1].losses && got.norms == runs[1].norms, at,
            ": two runs differ");
      CHECK(got.buckets == want.buckets, at);
      const auto compare = [&](const auto& a, const auto& b, double bound, const char* what) {
        CHECK(a.size() == b.size() && !a.empty(), at, ", ", what);
        CHECK_CLOSE(relative_error(a, b, static_cast<int64_t>(b.size())), bound, at, ", ", what);
      };
      const double loose = t == DType::F32 ? 1e-5 : 1e-2;
      compare(got.losses, want.losses, loose, "losses");
      compare(got.norms, want.norms, loose, "gradient norms");
      compare(got.entropy, want.entropy, loose, "attention statistics");
      compare(got.evaluated, want.evaluated, loose, "evaluation");
      // A step moves a weight by about its rate, whatever the gradient's size: signs of the smallest may
      // differ.
      compare(got.weights, want.weights, t == DType::F32 ? 2e-3 : 1e-2, "weights");
      compare(got.ema, want.ema, t == DType::F32 ? 2e-3 : 1e-2, "EMA");
    }
}

TEST("device: what the benches run: random slots, steps, a profile") {
  for (const TestedDevice& d : devices()) {
    DeviceEngine e(
        {{2, 2, 2, 4, 48, 32, 8, true, {0}}, {2, 8, 6, 5}, DType::BF16, DType::BF16, 1, true, false},
        d.device);
    const auto norms = on_driver(e, [&] {
      std::vector<double> norms;
      e.random_weights();
      for (int64_t step = 1; step <= 3; ++step) {
        e.run_random_slot(step == 2);
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
    CHECK(rows.size() > 15 && flops > e.flops_per_slot() / 2, d.name);
  }
}

}  // namespace
}  // namespace orch::test
