// Batch assembly against the paper's description, element by element, for all combinations of dropped
// encoders.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "../data/batch.h"
#include "data_files.h"

using namespace orch;
using namespace orch::test;

namespace {

constexpr int64_t kRows = 6, kLatent = 8;
const TextSpec kText{2, 3, 4, 5, 12, 6, 7};

/// Small integers, exact in every type and different for each (column, row, element).
float value_of(int column, int64_t row, int64_t i) {
  return static_cast<float>((column * 37 + row * 11 + i * 3) % 251 + 1);
}

/// binary16 of an integer in 1 ... 2047.
uint16_t half_of(float x) {
  uint32_t u;
  std::memcpy(&u, &x, 4);
  return static_cast<uint16_t>((u - 0x38000000u) >> 13);
}

struct Set {
  std::vector<std::string> roles{"latent"};
  std::vector<int64_t> widths{kLatent};
  std::unique_ptr<TemporaryFile> file;
  DatasetSpec spec;

  /// Columns alternate between float16 and float32.
  explicit Set(bool synthetic) {
    for (const char* caption : {"original", "synthetic"}) {
      if (!synthetic && caption[0] == 's') continue;
      for (const char* name : {"clip_l", "clip_l_pooled", "clip_g", "clip_g_pooled", "t5"}) {
        roles.push_back(std::string(caption) + "." + name);
      }
      for (int64_t width : {2 * 4, 6, 2 * 5, 7, 3 * 12}) widths.push_back(width);
    }
    std::vector<uint8_t> bytes;
    spec.stored_rows = kRows;
    for (size_t c = 0; c < roles.size(); c++) {
      const bool half = c % 2 == 0;
      bytes.resize((bytes.size() + 7) / 8 * 8);
      spec.columns.push_back({roles[c],
                              half ? Stored::F16 : Stored::F32,
                              widths[c],
                              widths[c] * (half ? 2 : 4),
                              {{0, 0, kRows, static_cast<int64_t>(bytes.size())}}});
      for (int64_t r = 0; r < kRows; r++) {
        for (int64_t i = 0; i < widths[c]; i++) {
          const float x = value_of(static_cast<int>(c), r, i);
          const uint16_t h = half_of(x);
          const auto* from =
              half ? reinterpret_cast<const uint8_t*>(&h) : reinterpret_cast<const uint8_t*>(&x);
          bytes.insert(bytes.end(), from, from + (half ? 2 : 4));
        }
      }
    }
    file = std::make_unique<TemporaryFile>(bytes);
    spec.files.push_back({file->path(), static_cast<int64_t>(bytes.size())});
  }
};

/// The paper's definition, one element at a time.
float wanted_context(int first, int64_t row, uint8_t dropped, int64_t token, int64_t channel) {
  if (token >= 2) return dropped & kDropT5 ? 0 : value_of(first + 4, row, (token - 2) * 12 + channel);
  if (channel < 4) return dropped & kDropClipL ? 0 : value_of(first, row, token * 4 + channel);
  if (channel < 9) return dropped & kDropClipG ? 0 : value_of(first + 2, row, token * 5 + channel - 4);
  return 0;
}
float wanted_pooled(int first, int64_t row, uint8_t dropped, int64_t i) {
  if (i < 6) return dropped & kDropClipL ? 0 : value_of(first + 1, row, i);
  return dropped & kDropClipG ? 0 : value_of(first + 3, row, i - 6);
}

template <class T>
void check_assembly() {
  const Set set(true);
  const BatchAssembler assembler(std::make_shared<Dataset>(set.spec), kText, kLatent, dtype_of<T>::value);
  CHECK(kText.context_tokens() == 5 && kText.pooled_dim() == 13);
  constexpr int64_t kBatch = 16;
  int64_t rows[kBatch];
  uint8_t synthetic[kBatch], dropped[kBatch];
  for (int64_t b = 0; b < kBatch; b++) {
    rows[b] = b * 5 % kRows;
    synthetic[b] = b / 8 == 1;
    dropped[b] = static_cast<uint8_t>(b % 8);
  }
  // Filled with other values first: every element must be written.
  std::vector<float> x0(kBatch * kLatent, -7);
  std::vector<T> context(kBatch * 5 * 12);
  std::vector<T> pooled(kBatch * 13);
  std::memset(context.data(), 0x7b, context.size() * sizeof(T));
  std::memset(pooled.data(), 0x7b, pooled.size() * sizeof(T));
  for (int64_t b = 0; b < kBatch; b++)
    assembler.assemble(rows[b], synthetic[b], dropped[b], {}, &x0[b * kLatent], &context[b * 60],
                       &pooled[b * 13]);
  for (int64_t b = 0; b < kBatch; b++) {
    const int first = synthetic[b] ? 6 : 1;
    for (int64_t i = 0; i < kLatent; i++)
      CHECK(x0[b * kLatent + i] == value_of(0, rows[b], i), "latent of ", b);
    for (int64_t i = 0; i < 60; i++) {
      const float want = wanted_context(first, rows[b], dropped[b], i / 12, i % 12);
      const float got = to_float(context[static_cast<size_t>(b * 60 + i)]);
      CHECK(got == want, "sample ", b, " token ", i / 12, " channel ", i % 12, ": ", got, ", not ", want);
    }
    for (int64_t i = 0; i < 13; i++) {
      const float got = to_float(pooled[static_cast<size_t>(b * 13 + i)]);
      CHECK(got == wanted_pooled(first, rows[b], dropped[b], i), "sample ", b, " pooled ", i);
    }
  }
}

}  // namespace

TEST("data: batches are assembled as in the paper, fp32") { check_assembly<float>(); }
TEST("data: batches are assembled as in the paper, bf16") { check_assembly<bf16>(); }

TEST("data: joined text features are assembled like those of each encoder") {
  const Set apart(true);
  const auto apart_data = std::make_shared<Dataset>(apart.spec);
  const BatchAssembler from_parts(apart_data, kText, kLatent, DType::F32);
  std::vector<float> x0(kLatent), context(60), pooled(13), values;
  for (int64_t row = 0; row < kRows; row++) {
    from_parts.assemble(row, false, 0, {}, x0.data(), context.data(), pooled.data());
    for (const auto& part : {x0, context, pooled}) values.insert(values.end(), part.begin(), part.end());
  }
  const TemporaryFile file(values);
  constexpr int64_t kRowBytes = 4 * (kLatent + 60 + 13);
  DatasetSpec spec{{{file.path(), kRows * kRowBytes}}, kRows, {}, {}};
  const auto column = [&](const char* role, int64_t width, int64_t offset) {
    spec.columns.push_back({role, Stored::F32, width, kRowBytes, {{0, 0, kRows, 4 * offset}}});
  };
  column("latent", kLatent, 0);
  column("original.context", 60, kLatent);
  column("original.pooled", 13, kLatent + 60);
  const BatchAssembler joined(std::make_shared<Dataset>(spec), kText, kLatent, DType::F32);
  std::vector<float> x1(kLatent), context1(60), pooled1(13);
  for (uint8_t dropped = 0; dropped < 8; dropped++) {
    for (int64_t row = 0; row < kRows; row++) {
      from_parts.assemble(row, false, dropped, {}, x0.data(), context.data(), pooled.data());
      joined.assemble(row, false, dropped, {}, x1.data(), context1.data(), pooled1.data());
      CHECK(x0 == x1 && context == context1 && pooled == pooled1, "row ", row, ", dropped ", int{dropped});
    }
  }
  TextSpec text = kText;
  text.t5_tokens = 4;
  check_throws("ERR_DATA_SHAPE", "original.context has 60",
               [&] { BatchAssembler(std::make_shared<Dataset>(spec), text, kLatent, DType::F32); });
}

TEST("data: a dropped row is zeros") {
  const Set set(false);
  const BatchAssembler assembler(std::make_shared<Dataset>(set.spec), kText, kLatent, DType::F32);
  std::vector<float> x0(kLatent, 7), context(60, 7), pooled(13, 7);
  assembler.assemble(0, false, kDropRow, {}, x0.data(), context.data(), pooled.data());
  for (const auto* values : {&x0, &context, &pooled})
    for (const float x : *values) CHECK(x == 0);
}

TEST("data: latents are drawn from the posterior, by counter, and scaled") {
  Set set(false);
  std::vector<float> moments(kRows * 2 * kLatent);
  for (int64_t r = 0; r < kRows; r++) {
    for (int64_t i = 0; i < kLatent; i++) {
      moments[r * 2 * kLatent + i] = static_cast<float>(r + i);
      // Beyond the clamped range, too.
      moments[r * 2 * kLatent + kLatent + i] = static_cast<float>(r == 1 ? 100 : r == 2 ? -INFINITY : -i);
    }
  }
  const TemporaryFile file(moments);
  set.spec.files.push_back({file.path(), static_cast<int64_t>(moments.size() * 4)});
  set.spec.columns[0] = {"latent", Stored::F32, kLatent, 8 * kLatent, {{1, 0, kRows, 0}}};
  set.spec.columns.push_back(
      {"latent_logvar", Stored::F32, kLatent, 8 * kLatent, {{1, 0, kRows, 4 * kLatent}}});
  set.spec.latent_shift = 0.5f;
  set.spec.latent_scale = 2;
  const BatchAssembler assembler(std::make_shared<Dataset>(set.spec), kText, kLatent, DType::F32);
  std::vector<float> x0(kLatent), again(kLatent), context(60), pooled(13), eps(kLatent);
  const auto assemble = [&](int64_t row, uint32_t step, std::vector<float>& to) {
    assembler.assemble(row, false, 0, {9, kNoiseStream, step, 77}, to.data(), context.data(), pooled.data());
  };
  for (int64_t row = 0; row < kRows; row++) {
    assemble(row, 3, x0);
    kernels::cpu().raw.normal(eps.data(), {9, kPosteriorStream, 3, 77}, kLatent);
    for (int64_t i = 0; i < kLatent; i++) {
      const double deviation = std::exp(row == 1 ? 10.0 : row == 2 ? -15.0 : -0.5 * static_cast<double>(i));
      const double want = (static_cast<double>(row + i) + deviation * eps[i] - 0.5) * 2;
      CHECK_CLOSE(std::fabs(x0[i] - want) / std::max(1.0, std::fabs(want)), 1e-6);
    }
    assemble(row, 3, again);
    CHECK(x0 == again);
    assemble(row, 4, again);
    CHECK(row == 2 || x0 != again);
  }
  set.spec.columns.back().width = kLatent - 1;
  check_throws("ERR_DATA_SHAPE", "latent_logvar has 7",
               [&] { BatchAssembler(std::make_shared<Dataset>(set.spec), kText, kLatent, DType::F32); });
}

TEST("data: shapes that do not fit the text or the model are rejected") {
  const Set set(true);
  const auto data = std::make_shared<Dataset>(set.spec);
  check_throws("ERR_DATA_SHAPE", "the model needs 9", [&] { BatchAssembler(data, kText, 9, DType::F32); });
  TextSpec text = kText;
  text.t5_dim = 8;
  check_throws("ERR_DATA_SHAPE", "padded", [&] { BatchAssembler(data, text, kLatent, DType::F32); });
  text = kText;
  text.clip_g_dim = 6;
  check_throws("ERR_DATA_SHAPE", "original.clip_g has 10",
               [&] { BatchAssembler(data, text, kLatent, DType::F32); });
  text = kText;
  text.t5_tokens = INT64_MAX / 4;
  check_throws("ERR_DATA_SHAPE", "original.t5", [&] { BatchAssembler(data, text, kLatent, DType::F32); });
  text = kText;
  text.clip_l_pooled_dim = -6;
  check_throws("ERR_DATA_SHAPE", "clip_l_pooled", [&] { BatchAssembler(data, text, kLatent, DType::F32); });
}

TEST("data: a synthetic caption is rejected if the dataset has none") {
  const Set set(false);
  const BatchAssembler assembler(std::make_shared<Dataset>(set.spec), kText, kLatent, DType::F32);
  std::vector<float> x0(kLatent), context(60), pooled(13);
  const auto assemble = [&](int64_t row, bool synthetic) {
    assembler.assemble(row, synthetic, 0, {}, x0.data(), context.data(), pooled.data());
  };
  assemble(4, false);
  check_throws("ERR_DATA_COLUMN", "Row 4", [&] { assemble(4, true); });
  check_throws("ERR_DATA_ROW", "Row 6", [&] { assemble(kRows, false); });
}
