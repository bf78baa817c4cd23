// Training, step after step as in a run: accumulate, reduce, update; and what a slot's gradient is.
#include <algorithm>
#include <cstring>

#include "devices.h"
#include "driver.h"
#include "training_set.h"

namespace orch::test {
namespace {

constexpr int64_t kSteps = 20, kSlots = 3;

struct Trained {
  std::vector<double> losses, norms;  ///< by step
  std::vector<float> state;           ///< weights, EMA, and the optimizer's moments
};

/// The same six samples with the same noise in every step, so that learning shows in the loss.
Trained train(DType t, int threads) {
  const TrainingSet set(4 * 4 * 4);
  Engine e({{2, 1, 2, 4, 48, 32, 8, true, {0}}, {2, 4, 4, 5}, t, t, threads, true, true});
  e.attach(set.data, kText);
  return on_driver(e, [&] {
    Trained result;
    random_start(e);
    for (int64_t step = 1; step <= kSteps; ++step) {
      AccumulateRequest r{{}, kSlots, 1.0f / (2 * kSlots), 99, 1, false};
      for (int64_t slot = 0; slot < kSlots; ++slot) r.slots.push_back({slot, batch(2 * slot)});
      double loss = 0;
      for (const auto& slot : e.accumulate(r, [](int) {}).losses)
        for (float sample : slot) loss += sample / (2 * kSlots);
      const double norm = e.reduce().norm;
      e.update({step, 1e-3, 0.9, 0.99, 1e-8, 0.01, std::min(1.0, 1.0 / norm), 0.9});
      result.losses.push_back(loss);
      result.norms.push_back(norm);
    }
    for (State s : e.states())
      result.state.insert(result.state.end(), e.state(s), e.state(s) + e.table().length);
    return result;
  });
}

TEST("training: 20 steps lower the loss, with the same bits on 1 and 2 threads") {
  for (DType t : {DType::F32, DType::BF16}) {
    const Trained one = train(t, 1), two = train(t, 2);
    CHECK(one.losses == two.losses && one.norms == two.norms, name_of(t));
    CHECK(std::memcmp(one.state.data(), two.state.data(), one.state.size() * sizeof(float)) == 0, name_of(t));
    for (double norm : one.norms) CHECK(std::isfinite(norm) && norm > 0, name_of(t), ": ", norm);
    // Bits differ between instruction sets, which add in different orders; what is learned does not. The
    // values are the losses of the generic set in fp32.
    CHECK_CLOSE(std::abs(one.losses.front() / 2.85539 - 1), t == DType::F32 ? 1e-5 : 1e-2, name_of(t));
    CHECK_CLOSE(std::abs(one.losses.back() / 0.37953 - 1), t == DType::F32 ? 1e-3 : 5e-2, name_of(t));
  }
}

TEST("training: statistics change no bit, and norms of ranges add up to the norm") {
  const TrainingSet set(4 * 4 * 4);
  for (DType t : {DType::F32, DType::BF16}) {
    std::vector<std::vector<float>> weights;
    for (bool statistics : {false, true}) {
      Engine e({{2, 1, 2, 4, 48, 32, 8, true, {0}}, {2, 4, 4, 5}, t, t, 2, true, true});
      e.attach(set.data, kText);
      on_driver(e, [&] {
        random_start(e);
        const Parameter &first = e.table().parameters[5], &last = e.table().parameters[9];
        e.freeze({{first.offset, first.offset + first.length}});
        const Ranges ranges{{0, last.offset}, {last.offset, e.table().length}};
        for (int64_t step = 1; step <= 3; ++step) {
          AccumulateRequest r{{}, kSlots, 1.0f / (2 * kSlots), 99, 1, statistics};
          for (int64_t slot = 0; slot < kSlots; ++slot) r.slots.push_back({slot, batch(2 * slot)});
          const auto result = e.accumulate(r, [](int) {});
          // Two blocks of two streams and a second attention of the image's; the last block's text has no
          // queries.
          CHECK(result.attention.size() == (statistics ? 4 : 0), result.attention.size());
          for (const auto& a : result.attention)
            CHECK(a.rows > 0 && a.mean_entropy > 0 && a.max_abs_logit > 0);
          const double norm = e.reduce().norm;
          if (statistics) {
            double squares = 0;
            for (double n : e.gradient_norms(ranges)) {
              CHECK(n > 0 && n < norm, n, " of ", norm);
              squares += n * n;
            }
            CHECK_CLOSE(std::abs(std::sqrt(squares) / norm - 1), 1e-12, name_of(t));
            CHECK(e.gradient_norms({{first.offset, first.offset + first.length}})[0] == 0,
                  "a frozen parameter");
            double difference = 0, all = 0;
            for (const Parameter& p : e.table().parameters)
              for (int64_t i = p.offset; i < p.offset + p.length && &p != &first; ++i) {
                const double w = e.state(State::Master)[i], a = e.state(State::Ema)[i];
                difference += (a - w) * (a - w);
                all += w * w;
              }
            CHECK_CLOSE(std::abs(e.ema_distance() - std::sqrt(difference / all)), 1e-7, name_of(t));
          }
          e.update({step, 1e-3, 0.9, 0.99, 1e-8, 0.01, std::min(1.0, 1.0 / norm), 0.9});
        }
        weights.emplace_back(e.state(State::Master), e.state(State::Master) + e.table().length);
        return 0;
      });
    }
    CHECK(weights[0] == weights[1], name_of(t));
  }
}

/// The gradient of slots that have `per_slot` batches of two samples each, numbered from `first`: that of the
/// only part.
std::vector<float> gradient_of(Engine& e, int64_t slots, int64_t per_slot, int64_t first, bool statistics,
                               AccumulateResult* result = nullptr) {
  // There is one slot more, which another worker has: so the part is in host memory on every device.
  AccumulateRequest r{{}, slots + 1, 1.0f / 12, 99, 1, statistics};
  for (int64_t slot = 0; slot < slots; ++slot) r.slots.push_back({slot, batch(first)});
  for (SlotBatch& slot : r.slots) {
    slot.samples = {};
    for (int64_t i = 0; i < per_slot; ++i, first += 2) append(slot.samples, batch(first));
  }
  std::vector<int> announced, all;
  const AccumulateResult got = e.accumulate(r, [&](int bucket) { announced.push_back(bucket); });
  for (size_t b = 0; b < e.table().buckets.size(); ++b) all.push_back(static_cast<int>(b));
  CHECK(announced == all, "each bucket is announced once");
  if (result) *result = got;
  const auto parts = e.parts();
  CHECK(parts.size() == 1 && parts[0].lo == 0 && parts[0].hi == slots);
  return {parts[0].data, parts[0].data + e.table().length};
}

std::vector<float> sum_of(std::vector<float> a, const std::vector<float>& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

TEST("training: a slot's gradient is the sum of its micro-batches', in their order, on every device") {
  const TrainingSet set(4 * 8 * 6);
  const ModelSpec model{2, 1, 2, 4, 48, 32, 8, true, {0}};
  const auto check = [&](const EngineSpec& spec, graph::Device& device, const std::string& at) {
    Engine e(spec, device);
    e.attach(set.data, kText);
    on_driver(e, [&] {
      random_start(e);
      std::vector<std::vector<float>> micro;
      std::vector<AccumulateResult> alone(4);
      for (int64_t i = 0; i < 4; ++i) micro.push_back(gradient_of(e, 1, 1, 2 * i, true, &alone[i]));
      AccumulateResult whole;
      const auto of_three = gradient_of(e, 1, 3, 0, true, &whole);
      CHECK(of_three == sum_of(sum_of(micro[0], micro[1]), micro[2]), at);
      CHECK(whole.losses.size() == 1 && whole.losses[0].size() == 6, at);
      for (size_t i = 0; i < 6; ++i) CHECK(whole.losses[0][i] == alone[i / 2].losses[0][i % 2], at);
      CHECK(whole.attention.size() == alone[0].attention.size() && !whole.attention.empty(), at);
      for (size_t a = 0; a < whole.attention.size(); ++a) {
        float most = 0;
        int64_t rows = 0;
        for (int i = 0; i < 3; ++i) {
          most = std::max(most, alone[i].attention[a].max_abs_logit);
          rows += alone[i].attention[a].rows;
        }
        CHECK(whole.attention[a].max_abs_logit == most && whole.attention[a].rows == rows, at);
      }
      CHECK(gradient_of(e, 2, 2, 0, false) == sum_of(sum_of(micro[0], micro[1]), sum_of(micro[2], micro[3])),
            at, ": two slots");
      return 0;
    });
  };
  for (DType t : {DType::F32, DType::BF16}) {
    for (int threads : {1, 2})
      check({model, {2, 8, 6, 5}, t, t, threads, true, true, Recompute::Norms}, graph::cpu_device(),
            text(name_of(t), ", ", threads, " threads"));
    for (const TestedDevice& d : devices())
      check({model, {2, 8, 6, 5}, t, t, 1, true, true, Recompute::Norms}, d.device,
            text(d.name, ", ", name_of(t)));
  }
}

TEST("training: slots of more micro-batches hold fewer gradients, on every device") {
  const TrainingSet set(4 * 4 * 4);
  for (const TestedDevice& d : devices()) {
    const auto bytes = [&](int64_t slots, int64_t per_slot) {
      Engine e({{1, 1, 2, 4, 48, 32, 8, true, {}}, {2, 4, 4, 5}, DType::F32, DType::F32, 1, true, true},
               d.device);
      e.attach(set.data, kText);
      return on_driver(e, [&] {
        random_start(e);
        gradient_of(e, slots, per_slot, 0, false);
        return std::pair{e.device_bytes(), static_cast<size_t>(e.table().length) * sizeof(float)};
      });
    };
    const auto [eight, gradient] = bytes(8, 1);
    const auto [one, same] = bytes(1, 8);
    // log2(8) + 1 gradients, and one; a device rounds each up.
    CHECK((eight - one) / gradient == 3, d.name, ": ", eight, " and ", one, " bytes, gradients of ",
          gradient);
  }
}

}  // namespace
}  // namespace orch::test
