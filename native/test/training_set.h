// Data for training tests: random rows, batches of them, and initial weights.
#pragma once
#include <memory>
#include <random>
#include <vector>

#include "data_files.h"
#include "engine/engine.h"

namespace orch::test {

inline const TextSpec kText{2, 3, 16, 24, 48, 16, 16};

/// Random rows of latents and text in one file.
struct TrainingSet {
  static constexpr int64_t kRows = 8;
  std::unique_ptr<TemporaryFile> file;
  std::shared_ptr<const Dataset> data;

  explicit TrainingSet(int64_t latent) {
    std::mt19937 random(2);
    std::normal_distribution<float> normal;
    std::vector<float> values;
    DatasetSpec spec;
    spec.stored_rows = kRows;
    const auto column = [&](const char* role, int64_t width) {
      spec.columns.push_back(
          {role, Stored::F32, width, width * 4, {{0, 0, kRows, static_cast<int64_t>(values.size() * 4)}}});
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

/// Two samples, numbered from `from`.
inline SampleBatch batch(int64_t from) {
  SampleBatch b;
  for (int64_t i = 0; i < 2; ++i) {
    b.rows.push_back((from + i) % TrainingSet::kRows);
    b.synthetic.push_back(0);
    b.dropped.push_back(from == 2 ? kDropT5 : 0);
    for (float c : {0.6f, 0.4f, -1.0f, 1.0f, 1.5f, 400.0f}) b.coefficients.push_back(c);
    b.sample_ids.push_back(static_cast<uint64_t>(from + i));
  }
  return b;
}

/// Appends the samples of another batch.
inline void append(SampleBatch& to, const SampleBatch& from) {
  const auto add = [](auto& all, const auto& more) { all.insert(all.end(), more.begin(), more.end()); };
  add(to.rows, from.rows);
  add(to.synthetic, from.synthetic);
  add(to.dropped, from.dropped);
  add(to.coefficients, from.coefficients);
  add(to.sample_ids, from.sample_ids);
}

/// Replaces the initial zeros, so that every path has a gradient.
inline void random_start(Engine& e) {
  e.initialize(7);
  for (State state : {State::Master, State::Ema}) {
    std::mt19937 random(11);
    std::normal_distribution<float> normal(0, 0.1f);
    float* const values = e.state(state);
    for (const Parameter& p : e.table().parameters)
      for (int64_t i = 0; i < p.length; ++i) values[p.offset + i] = normal(random);
  }
  e.parameters_changed();
}

}  // namespace orch::test
