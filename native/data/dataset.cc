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

inline void assign(float& to, float x) { to = x; }
inline void assign(bf16& to, float x) { to = to_bf16(x); }

template <class T>
void convert(void* out, const void* values, Stored type, int64_t n) {
  const auto& kernels = kernels::cpu().typed<T>();
  auto* to = static_cast<T*>(out);
  switch (type) {
    case Stored::F16:
      return kernels.from_f16(to, static_cast<const f16*>(values), n);
    case Stored::F32:
      return kernels.from_f32(to, static_cast<const float*>(values), n);
    case Stored::BF16:
      for (int64_t i = 0; i < n; ++i) assign(to[i], to_float(static_cast<const bf16*>(values)[i]));
      return;
    case Stored::F64:
      for (int64_t i = 0; i < n; ++i)
        assign(to[i], static_cast<float>(static_cast<const double*>(values)[i]));
  }
}

}  // namespace

Dataset::Dataset(const DatasetSpec& spec)
    : order_(spec.order),
      rows_(order_.empty() ? spec.stored_rows : static_cast<int64_t>(order_.size())),
      stored_rows_(spec.stored_rows),
      latent_shift_(spec.latent_shift),
      latent_scale_(spec.latent_scale) {
  if (stored_rows_ < 0) bad_spec("The data set has ", stored_rows_, " rows");
  for (const int64_t row : order_)
    if (row < 0 || row >= stored_rows_) bad_spec("Row ", row, " is selected of ", stored_rows_, " rows");
  finite_ = std::make_unique<std::atomic<uint8_t>[]>(static_cast<size_t>(rows_));
  files_.reserve(spec.files.size());
  for (const FileSpec& file : spec.files) {
    if (file.bytes < 0) bad_spec(file.path, " is said to have ", file.bytes, " bytes");
    files_.push_back(std::make_unique<MappedFile>(file.path, file.bytes));
  }
  columns_.reserve(spec.columns.size());
  for (const ColumnSpec& from : spec.columns) {
    const std::string name = "Column " + from.role;
    const auto size = static_cast<int64_t>(size_of(from.type));
    int64_t values;
    if (from.width <= 0) bad_spec(name, " has ", from.width, " elements a row");
    if (!multiply(from.width, size, &values) || values > from.row_bytes)
      bad_spec(name, ": ", from.width, " elements do not fit into ", from.row_bytes, " bytes");
    if (find(from.role) >= 0) bad_spec(name, " is there twice");
    Column column{from.role, from.type, from.width, from.row_bytes, {}};
    column.segments.reserve(from.segments.size());
    int64_t next = 0;
    for (const ColumnSegment& segment : from.segments) {
      if (segment.file < 0 || segment.file >= static_cast<int64_t>(files_.size()))
        bad_spec(name, " names file ", segment.file, " of ", files_.size());
      const MappedFile& file = *files_[static_cast<size_t>(segment.file)];
      const std::string place =
          name + ", rows from " + std::to_string(segment.first_row) + " in " + file.path();
      int64_t bytes;
      if (segment.first_row != next || segment.rows <= 0 || segment.rows > stored_rows_ - next)
        bad_spec(place, ": segments do not follow each other within ", stored_rows_, " rows");
      if (!multiply(segment.rows - 1, from.row_bytes, &bytes) ||
          __builtin_add_overflow(bytes, values, &bytes))
        bad_spec(place, ": the size overflows");
      if (!within(segment.byte_offset, bytes, file.size()))
        throw Error("ERR_FILE_TRUNCATED", place, ": ", bytes, " bytes at offset ", segment.byte_offset,
                    " lie outside the file's ", file.size());
      if (segment.byte_offset % size != 0 || from.row_bytes % size != 0)
        bad_spec(place, ": offset ", segment.byte_offset, " is not aligned");
      column.segments.push_back({file.data() + segment.byte_offset, segment.first_row, segment.rows});
      next += segment.rows;
    }
    if (next != stored_rows_) bad_spec(name, " has ", next, " rows, expected ", stored_rows_);
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
  const int64_t stored = order_.empty() ? row : order_[static_cast<size_t>(row)];
  auto after = std::upper_bound(from.segments.begin(), from.segments.end(), stored,
                                [](int64_t value, const Segment& s) { return value < s.first_row; });
  const Segment& segment = *(after - 1);
  return segment.data + (stored - segment.first_row) * from.row_bytes;
}

void Dataset::require_whole() const {
  if (!MappedFile::any_failed()) return;
  for (const auto& file : files_) file->require_whole();
}

void Dataset::read(int column, int64_t row, DType type, void* out, int64_t tokens, int64_t stride) const {
  const auto* from = static_cast<const uint8_t*>(this->row(column, row));
  const Stored stored = columns_[column].type;
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

bool Dataset::finite(int64_t row) const {
  if (columns_.empty()) return true;
  this->row(0, row);
  auto& known = finite_[static_cast<size_t>(row)];
  if (const auto state = known.load(std::memory_order_relaxed); state != kUnknown) return state == kFinite;
  std::vector<float> values;
  bool finite = true;
  for (size_t c = 0; c < columns_.size() && finite; c++) {
    values.resize(static_cast<size_t>(columns_[c].width));
    row_f32(static_cast<int>(c), row, values.data());
    // x - x is 0 for finite x and NaN otherwise, so the sum tells of all; it has no branch.
    float all = 0;
    for (const float x : values) all += x - x;
    finite = all == 0;
  }
  known.store(finite ? kFinite : kNonFinite, std::memory_order_relaxed);
  return finite;
}

ColumnScan Dataset::scan(int column, int64_t from, int64_t to, double low, double high, int bins) const {
  if (from < 0 || to < from || to > rows_)
    throw Error("ERR_DATA_ROW", "Rows ", from, " to ", to, " lie outside the data set's ", rows_, " rows");
  if (bins < 0 || bins > (1 << 20) || (bins > 0 && !(high > low)))
    bad_spec("A histogram of ", bins, " bins over [", low, ", ", high, "] cannot be made");
  const double nan = std::numeric_limits<double>::quiet_NaN();
  ColumnScan result{nan, nan, nan, nan, 0, 0, {}, std::vector<double>(static_cast<size_t>(bins))};
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
        result.non_finite++;
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
    if (finite < n) {
      result.non_finite_rows++;
      if (result.first_non_finite_rows.size() < kListedRows) result.first_non_finite_rows.push_back(r);
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
