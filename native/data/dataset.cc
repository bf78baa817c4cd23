#include "dataset.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "../core/error.h"
#include "../kernels/kernels.h"

namespace orch {
namespace {

template <class... Parts>
[[noreturn]] void bad_spec(const Parts&... parts) {
  throw Error("ERR_DATA_SPEC", parts...);
}

/// Stores a * b in *product; false if it overflows or a factor is negative.
bool multiply(int64_t a, int64_t b, int64_t* product) {
  return a >= 0 && b >= 0 && !__builtin_mul_overflow(a, b, product);
}

/// Whether [offset, offset + bytes) lies within [0, size).
bool within(int64_t offset, int64_t bytes, uint64_t size) {
  return offset >= 0 && bytes >= 0 && static_cast<uint64_t>(offset) <= size &&
         static_cast<uint64_t>(bytes) <= size - static_cast<uint64_t>(offset);
}

template <class T>
void convert(void* out, const void* values, DType type, int64_t n) {
  const auto& kernels = kernels::cpu().typed<T>();
  if (type == DType::F16)
    kernels.from_f16(static_cast<T*>(out), static_cast<const f16*>(values), n);
  else
    kernels.from_f32(static_cast<T*>(out), static_cast<const float*>(values), n);
}

}  // namespace

Dataset::Dataset(const DatasetSpec& spec) : rows_(spec.rows) {
  if (rows_ < 0) bad_spec("The data set has ", rows_, " rows");
  files_.reserve(spec.files.size());
  for (const FileSpec& file : spec.files) {
    if (file.bytes < 0) bad_spec(file.path, " is said to have ", file.bytes, " bytes");
    files_.push_back(std::make_unique<MappedFile>(file.path, file.bytes));
  }
  columns_.reserve(spec.columns.size());
  for (const ColumnSpec& from : spec.columns) {
    const std::string name = "Column " + from.role;
    if (from.type != DType::F16 && from.type != DType::F32) bad_spec(name, ": expected F16 or F32");
    if (from.width <= 0) bad_spec(name, " has ", from.width, " elements a row");
    if (find(from.role) >= 0) bad_spec(name, " is there twice");
    Column column{from.role, from.type, from.width, {}};
    column.segments.reserve(from.segments.size());
    int64_t next = 0;
    for (const ColumnSegment& segment : from.segments) {
      if (segment.file < 0 || segment.file >= static_cast<int64_t>(files_.size()))
        bad_spec(name, " names file ", segment.file, " of ", files_.size());
      const MappedFile& file = *files_[static_cast<size_t>(segment.file)];
      const std::string place =
          name + ", rows from " + std::to_string(segment.first_row) + " in " + file.path();
      int64_t elements, bytes;
      if (segment.first_row != next || segment.rows <= 0 || segment.rows > rows_ - next)
        bad_spec(place, ": segments do not follow each other within ", rows_, " rows");
      if (!multiply(segment.rows, from.width, &elements) ||
          !multiply(elements, static_cast<int64_t>(size_of(from.type)), &bytes))
        bad_spec(place, ": the size overflows");
      if (!within(segment.byte_offset, bytes, file.size()))
        throw Error("ERR_FILE_TRUNCATED", place, ": ", bytes, " bytes at offset ", segment.byte_offset,
                    " lie outside the file's ", file.size());
      if (segment.byte_offset % static_cast<int64_t>(size_of(from.type)) != 0)
        bad_spec(place, ": offset ", segment.byte_offset, " is not aligned");
      column.segments.push_back({file.data() + segment.byte_offset, segment.first_row, segment.rows});
      next += segment.rows;
    }
    if (next != rows_) bad_spec(name, " has ", next, " rows, expected ", rows_);
    columns_.push_back(std::move(column));
  }
}

int Dataset::find(std::string_view role) const {
  for (size_t i = 0; i < columns_.size(); i++) {
    if (columns_[i].role == role) return static_cast<int>(i);
  }
  return -1;
}

int Dataset::column(std::string_view role) const {
  const int index = find(role);
  if (index < 0) throw Error("ERR_DATA_COLUMN", "The data set has no column for ", role);
  return index;
}

const void* Dataset::row(int column, int64_t row) const {
  if (row < 0 || row >= rows_)
    throw Error("ERR_DATA_ROW", "Row ", row, " lies outside the data set's ", rows_, " rows");
  const Column& from = columns_[static_cast<size_t>(column)];
  auto after = std::upper_bound(from.segments.begin(), from.segments.end(), row,
                                [](int64_t value, const Segment& s) { return value < s.first_row; });
  const Segment& segment = *(after - 1);
  return segment.data + (row - segment.first_row) * from.width * static_cast<int64_t>(size_of(from.type));
}

void Dataset::require_whole() const {
  if (!MappedFile::any_failed()) return;
  for (const auto& file : files_) file->require_whole();
}

void Dataset::read(int column, int64_t row, DType type, void* out, int64_t tokens, int64_t stride) const {
  const auto* from = static_cast<const uint8_t*>(this->row(column, row));
  const DType stored = columns_[column].type;
  const int64_t n = width(column) / tokens;
  for (int64_t i = 0; i < tokens; ++i)
    (type == DType::BF16 ? convert<bf16>
                         : convert<float>)(static_cast<uint8_t*>(out) + i * stride * size_of(type),
                                           from + i * n * size_of(stored), stored, n);
}

void Dataset::row_f32(int column, int64_t row, float* out) const {
  read(column, row, DType::F32, out);
  require_whole();
}

ColumnScan Dataset::scan(int column, int64_t from, int64_t to, double low, double high, int bins) const {
  if (from < 0 || to < from || to > rows_)
    throw Error("ERR_DATA_ROW", "Rows ", from, " to ", to, " lie outside the data set's ", rows_, " rows");
  if (bins < 0 || bins > (1 << 20) || (bins > 0 && !(high > low)))
    bad_spec("A histogram of ", bins, " bins over [", low, ", ", high, "] cannot be made");
  const double nan = std::numeric_limits<double>::quiet_NaN();
  ColumnScan result{nan, nan, nan, nan, 0, -1, std::vector<double>(static_cast<size_t>(bins))};
  const int64_t n = width(column);
  std::vector<float> values(static_cast<size_t>(n));
  const double scale = bins > 0 ? bins / (high - low) : 0;
  int64_t count = 0;
  // Welford's method over rows: the mean and the sum of squared deviations of each row are merged into the
  // total.
  double mean = 0, deviations = 0;
  for (int64_t r = from; r < to; r++) {
    row_f32(column, r, values.data());
    int64_t finite = 0;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
      const double x = values[static_cast<size_t>(i)];
      if (!std::isfinite(x)) {
        if (result.non_finite++ == 0) result.first_non_finite_row = r;
        continue;
      }
      finite++;
      sum += x;
      // The negated comparisons let the first value replace NaN.
      if (!(result.min <= x)) result.min = x;
      if (!(result.max >= x)) result.max = x;
      if (bins > 0 && x >= low && x <= high) {
        const auto bin = static_cast<int64_t>((x - low) * scale);
        result.histogram[static_cast<size_t>(std::min<int64_t>(bin, bins - 1))] += 1;
      }
    }
    if (finite == 0) continue;
    const double row_mean = sum / static_cast<double>(finite);
    double row_deviations = 0;
    for (int64_t i = 0; i < n; i++) {
      const double x = values[static_cast<size_t>(i)];
      if (std::isfinite(x)) row_deviations += (x - row_mean) * (x - row_mean);
    }
    const double total = static_cast<double>(count + finite);
    const double delta = row_mean - mean;
    deviations +=
        row_deviations + delta * delta * (static_cast<double>(count) * static_cast<double>(finite) / total);
    mean += delta * (static_cast<double>(finite) / total);
    count += finite;
  }
  if (count > 0) {
    result.mean = mean;
    result.std = std::sqrt(deviations / static_cast<double>(count));
  }
  return result;
}

}  // namespace orch
