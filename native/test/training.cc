// Training on the CPU, step after step as in a run: accumulate, reduce, update.
#include <cstring>

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

}  // namespace
}  // namespace orch::test
