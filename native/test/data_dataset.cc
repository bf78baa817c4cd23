// Mapped datasets: every position that TypeScript passes is checked, and statistics match a plain
// computation.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cmath>
#include <limits>

#include "../data/dataset.h"
#include "data_files.h"

using namespace orch;
using namespace orch::test;

namespace {

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

/// 5 rows x 3 floats in two segments, in reverse order in the file: rows 3, 4 at byte 0 and rows 0, 1, 2 at
/// byte 24.
struct TwoSegments {
  TemporaryFile file{std::vector<float>{9, 10, 11, 12, 13, 14, 0, 1, 2, 3, 4, 5, 6, 7, 8}};
  DatasetSpec spec{
      {{file.path(), 60}}, 5, {}, {{"latent", Stored::F32, 3, 12, {{0, 0, 3, 24}, {0, 3, 2, 0}}}}};
};

}  // namespace

TEST("data: rows are read from their segments") {
  TwoSegments two;
  const Dataset data(two.spec);
  CHECK(data.rows() == 5 && data.width(0) == 3);
  for (int64_t r = 0; r < 5; r++) {
    const auto* row = static_cast<const float*>(data.row(0, r));
    float copy[3];
    data.row_f32(0, r, copy);
    for (int i = 0; i < 3; i++) {
      CHECK(row[i] == static_cast<float>(3 * r + i), "row ", r);
      CHECK(copy[i] == row[i]);
    }
  }
  check_throws("ERR_DATA_ROW", "Row 5 ", [&] { data.row(0, 5); });
  check_throws("ERR_DATA_ROW", "Row -1 ", [&] { data.row(0, -1); });
  check_throws("ERR_DATA_COLUMN", "original.t5", [&] { data.column("original.t5"); });
  CHECK(data.find("original.t5") == -1 && data.find("latent") == 0);
}

TEST("data: a file truncated while in use is an error that names it") {
  constexpr int64_t kRows = 8, kWidth = 4096;
  const TemporaryFile file(std::vector<float>(kRows * kWidth, 1.0f)), other(std::vector<float>(kWidth, 2.0f));
  const auto spec = [](const std::string& path, int64_t rows) {
    return DatasetSpec{{{path, rows * kWidth * 4}},
                       rows,
                       {},
                       {{"latent", Stored::F32, kWidth, kWidth * 4, {{0, 0, rows, 0}}}}};
  };
  std::vector<float> row(kWidth);
  {
    const Dataset data(spec(file.path(), kRows)), whole(spec(other.path(), 1));
    CHECK(truncate(file.path().c_str(), 2 * kWidth * 4) == 0);
    data.row_f32(0, 1, row.data());
    CHECK(row[0] == 1.0f && row[kWidth - 1] == 1.0f);
    check_throws("ERR_FILE_TRUNCATED", file.path().c_str(), [&] { data.row_f32(0, 5, row.data()); });
    check_throws("ERR_FILE_TRUNCATED", "131072 bytes", [&] { data.scan(0, 6, 8, 0, 1, 4); });
    whole.row_f32(0, 0, row.data());
    CHECK(row[kWidth - 1] == 2.0f);
  }
  const Dataset again(spec(file.path(), 2));
  again.row_f32(0, 1, row.data());
  CHECK(row[0] == 1.0f);
}

TEST("data: float16 rows become fp32, subnormals and infinities included") {
  const TemporaryFile file(
      std::vector<uint16_t>{0x3c00, 0xc000, 0x0001, 0x8400, 0x7bff, 0x7c00, 0xfc00, 0x7e00});
  const Dataset data({{{file.path(), 16}}, 1, {}, {{"latent", Stored::F16, 8, 16, {{0, 0, 1, 0}}}}});
  float row[8];
  data.row_f32(0, 0, row);
  const float want[7] = {1, -2, std::ldexp(1.0f, -24), -std::ldexp(1.0f, -14), 65504, INFINITY, -INFINITY};
  for (int i = 0; i < 7; i++) CHECK(row[i] == want[i], i, ": ", row[i]);
  CHECK(std::isnan(row[7]));
}

TEST("data: bfloat16 and float64 become fp32, which float64 is rounded to") {
  const TemporaryFile halves(std::vector<uint16_t>{0x3f80, 0xc049, 0x7f80, 0x0001});
  const Dataset bf({{{halves.path(), 8}}, 1, {}, {{"latent", Stored::BF16, 4, 8, {{0, 0, 1, 0}}}}});
  float row[4];
  bf.row_f32(0, 0, row);
  CHECK(row[0] == 1 && row[1] == -3.140625f && row[2] == INFINITY && row[3] == std::ldexp(1.0f, -133));
  const TemporaryFile doubles(std::vector<double>{1.0 / 3, 1e300, NAN, -2});
  const Dataset wide({{{doubles.path(), 32}}, 2, {}, {{"latent", Stored::F64, 2, 16, {{0, 0, 2, 0}}}}});
  wide.row_f32(0, 0, row);
  CHECK(row[0] == static_cast<float>(1.0 / 3) && row[1] == INFINITY);
  bf16 narrow[2];
  wide.read(0, 1, DType::BF16, narrow);
  CHECK(std::isnan(to_float(narrow[0])) && to_float(narrow[1]) == -2);
}

TEST("data: rows with others between them, and in another order") {
  // Rows of two floats, of which the column has the second.
  const TemporaryFile file(std::vector<float>{0, 1, 2, 3, 4, 5});
  const Dataset data({{{file.path(), 24}}, 3, {2, 0, 2, 1}, {{"latent", Stored::F32, 1, 8, {{0, 0, 3, 4}}}}});
  CHECK(data.rows() == 4);
  const float want[4] = {5, 1, 5, 3};
  for (int64_t r = 0; r < 4; r++) {
    float value;
    data.row_f32(0, r, &value);
    CHECK(value == want[r], "row ", r, ": ", value);
  }
  check_throws("ERR_DATA_ROW", "Row 4 ", [&] { data.row(0, 4); });
}

TEST("data: a row is finite if all of its columns are") {
  const TemporaryFile file(std::vector<float>{0, 1, 2, NAN, 4, 5, 6, -INFINITY});
  const Dataset data({{{file.path(), 32}},
                      2,
                      {1, 0},
                      {{"latent", Stored::F32, 1, 16, {{0, 0, 2, 0}}},
                       {"original.t5", Stored::F32, 3, 16, {{0, 0, 2, 4}}}}});
  CHECK(!data.finite(0) && !data.finite(1) && !data.finite(1));
  const Dataset latents({{{file.path(), 32}}, 2, {}, {{"latent", Stored::F32, 3, 16, {{0, 0, 2, 0}}}}});
  CHECK(latents.finite(0) && latents.finite(1) && latents.finite(0));
  check_throws("ERR_DATA_ROW", "Row 2 ", [&] { latents.finite(2); });
}

TEST("data: contradictory or overflowing offsets are rejected") {
  struct Case {
    const char* code;
    const char* part;
    std::function<void(DatasetSpec&)> change;
  };
  auto segment = [](DatasetSpec& s) -> ColumnSegment& { return s.columns[0].segments[0]; };
  const std::vector<Case> cases = {
      {"ERR_FILE_OPEN", "No such file", [](DatasetSpec& s) { s.files[0].path += "-missing"; }},
      {"ERR_FILE_OPEN", "not a regular file", [](DatasetSpec& s) { s.files[0].path = "/tmp"; }},
      {"ERR_FILE_OPEN", "not a regular file",
       [](DatasetSpec& s) {
         const char* path = s.files[0].path.c_str();
         CHECK(unlink(path) == 0 && mkfifo(path, 0600) == 0);
       }},
      {"ERR_FILE_TRUNCATED", "has 60 bytes, expected 64", [](DatasetSpec& s) { s.files[0].bytes = 64; }},
      {"ERR_DATA_SPEC", "bytes", [](DatasetSpec& s) { s.files[0].bytes = -5; }},
      {"ERR_DATA_SPEC", "-1 rows", [](DatasetSpec& s) { s.stored_rows = -1; }},
      {"ERR_DATA_SPEC", "has 5 rows, expected 6", [](DatasetSpec& s) { s.stored_rows = 6; }},
      {"ERR_DATA_SPEC", "do not fit", [](DatasetSpec& s) { s.columns[0].type = Stored::F64; }},
      {"ERR_DATA_SPEC", "do not fit", [](DatasetSpec& s) { s.columns[0].width = 4; }},
      {"ERR_DATA_SPEC", "Row 5 is selected",
       [](DatasetSpec& s) {
         s.order = {0, 5};
       }},
      {"ERR_DATA_SPEC", "not aligned",
       [&](DatasetSpec& s) {
         s.columns[0].row_bytes = 14;
         segment(s).byte_offset = 0;
       }},
      {"ERR_DATA_SPEC", "0 elements", [](DatasetSpec& s) { s.columns[0].width = 0; }},
      {"ERR_DATA_SPEC", "twice", [](DatasetSpec& s) { s.columns.push_back(s.columns[0]); }},
      {"ERR_DATA_SPEC", "names file 1 of 1", [&](DatasetSpec& s) { segment(s).file = 1; }},
      {"ERR_DATA_SPEC", "names file -1", [&](DatasetSpec& s) { segment(s).file = -1; }},
      {"ERR_DATA_SPEC", "do not follow", [&](DatasetSpec& s) { segment(s).first_row = 1; }},
      {"ERR_DATA_SPEC", "do not follow", [&](DatasetSpec& s) { segment(s).rows = 0; }},
      {"ERR_DATA_SPEC", "do not follow", [&](DatasetSpec& s) { segment(s).rows = kMax; }},
      {"ERR_DATA_SPEC", "not aligned", [&](DatasetSpec& s) { segment(s).byte_offset = 22; }},
      {"ERR_DATA_SPEC", "do not fit", [](DatasetSpec& s) { s.columns[0].width = kMax / 2; }},
      {"ERR_DATA_SPEC", "overflows", [](DatasetSpec& s) { s.columns[0].row_bytes = kMax / 4 * 2; }},
      {"ERR_FILE_TRUNCATED", "lie outside", [](DatasetSpec& s) { s.columns[0].row_bytes = 24; }},
      {"ERR_FILE_TRUNCATED", "lie outside", [&](DatasetSpec& s) { segment(s).byte_offset = 28; }},
      {"ERR_FILE_TRUNCATED", "lie outside", [&](DatasetSpec& s) { segment(s).byte_offset = -4; }},
      {"ERR_FILE_TRUNCATED", "lie outside", [&](DatasetSpec& s) { segment(s).byte_offset = kMax - 3; }},
  };
  for (const Case& c : cases) {
    TwoSegments two;
    c.change(two.spec);
    check_throws(c.code, c.part, [&] { Dataset data(two.spec); });
  }
}

TEST("data: a scan finds range, moments, histogram and non-finite values") {
  constexpr int64_t kRows = 40, kWidth = 7;
  std::vector<float> values(kRows * kWidth);
  for (size_t i = 0; i < values.size(); i++) values[i] = 1000 + std::sin(static_cast<float>(i)) * 3;
  values[11 * kWidth + 2] = NAN;
  values[30 * kWidth] = -INFINITY;
  const TemporaryFile file(values);
  const Dataset data({{{file.path(), kRows * kWidth * 4}},
                      kRows,
                      {},
                      {{"latent", Stored::F32, kWidth, kWidth * 4, {{0, 0, kRows, 0}}}}});
  const int64_t from = 3, to = 38;
  double sum = 0, min = INFINITY, max = -INFINITY;
  int64_t count = 0;
  std::vector<double> histogram(4);
  for (int64_t i = from * kWidth; i < to * kWidth; i++) {
    const double x = values[static_cast<size_t>(i)];
    if (!std::isfinite(x)) continue;
    sum += x;
    count++;
    min = std::min(min, x);
    max = std::max(max, x);
    if (x >= 999 && x <= 1001) histogram[static_cast<size_t>(std::min(3.0, (x - 999) / 0.5))] += 1;
  }
  double square = 0;
  for (int64_t i = from * kWidth; i < to * kWidth; i++) {
    const double x = values[static_cast<size_t>(i)];
    if (std::isfinite(x))
      square += (x - sum / static_cast<double>(count)) * (x - sum / static_cast<double>(count));
  }
  const ColumnScan scan = data.scan(0, from, to, 999, 1001, 4);
  CHECK(scan.min == min && scan.max == max);
  CHECK_CLOSE(std::fabs(scan.mean - sum / static_cast<double>(count)), 1e-9);
  CHECK_CLOSE(std::fabs(scan.std - std::sqrt(square / static_cast<double>(count))), 1e-9);
  CHECK(scan.non_finite == 2 && scan.non_finite_rows == 2 &&
        scan.first_non_finite_rows == std::vector<int64_t>({11, 30}));
  for (size_t i = 0; i < 4; i++) CHECK(scan.histogram[i] == histogram[i], "bin ", i);
  const ColumnScan clean = data.scan(0, 0, 11, 0, 1, 0);
  CHECK(clean.non_finite == 0 && clean.first_non_finite_rows.empty() && clean.histogram.empty());
  const ColumnScan none = data.scan(0, 5, 5, 0, 1, 2);
  CHECK(std::isnan(none.mean) && std::isnan(none.min));
  check_throws("ERR_DATA_ROW", "lie outside", [&] { data.scan(0, 0, kRows + 1, 0, 1, 1); });
  check_throws("ERR_DATA_SPEC", "histogram", [&] { data.scan(0, 0, 1, 1, 1, 1); });
}

TEST("data: the cached pages of a flushed file are dropped, and read from the disk again") {
  constexpr long kTmpfs = 0x01021994, kRamfs = static_cast<long>(0x858458f6);
  const TemporaryFile file(std::vector<float>(1 << 18, 1.0f));
  struct statfs system;
  CHECK(statfs(file.path().c_str(), &system) == 0);
  if (system.f_type == kTmpfs || system.f_type == kRamfs) return skip("the temporary folder lives in memory");
  constexpr size_t kBytes = 4 << 18;
  const int fd = open(file.path().c_str(), O_RDONLY);
  CHECK(fd >= 0 && fsync(fd) == 0);
  const auto cached = [&] {
    void* const map = mmap(nullptr, kBytes, PROT_READ, MAP_SHARED, fd, 0);
    std::vector<unsigned char> pages(kBytes / static_cast<size_t>(sysconf(_SC_PAGESIZE)));
    CHECK(map != MAP_FAILED && mincore(map, kBytes, pages.data()) == 0);
    munmap(map, kBytes);
    size_t count = 0;
    for (const unsigned char page : pages) count += page & 1;
    return count;
  };
  CHECK(cached() > 0);
  drop_cached_pages(file.path());
  CHECK(cached() == 0);
  float value = 0;
  CHECK(pread(fd, &value, sizeof value, kBytes - sizeof value) == sizeof value && value == 1.0f);
  close(fd);
  check_throws("ERR_FILE_OPEN", "/nowhere", [] { drop_cached_pages("/nowhere"); });
}
