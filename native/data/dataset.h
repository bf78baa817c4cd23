// Rows of Arrow columns in mapped files. TypeScript reads the files' metadata and passes where the values
// are; every position is checked here against the real size of the file before it is used.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "../core/dtype.h"
#include "mapped_file.h"

namespace orch {

/// The element type of stored values. Arithmetic happens in fp32, to which float64 is rounded.
enum class Stored : uint8_t { F16, BF16, F32, F64 };
inline size_t size_of(Stored t) { return t == Stored::F64 ? 8 : t == Stored::F32 ? 4 : 2; }

/// The values of one role in one record batch: `rows` rows of `width` elements from byte_offset of the file.
struct ColumnSegment {
  int64_t file;  ///< index into DatasetSpec::files
  int64_t first_row;
  int64_t rows;
  int64_t byte_offset;
};

struct ColumnSpec {
  std::string role;  ///< "latent", "original.clip_l", "synthetic.clip_g_pooled", ...
  Stored type;
  int64_t width;      ///< elements per row
  int64_t row_bytes;  ///< from one row to the next in a segment: more than a row has where others lie between
  std::vector<ColumnSegment> segments;
};

struct FileSpec {
  std::string path;
  int64_t bytes;
};

/// Mirrors DatasetSpec in src/native/contract.ts.
struct DatasetSpec {
  std::vector<FileSpec> files;
  int64_t stored_rows;  ///< in the segments of each column
  /// The stored row of each row, for a set of selected rows; empty: all of them, as they are stored.
  std::vector<int64_t> order;
  std::vector<ColumnSpec> columns;
  /// What the model sees of a latent z: (z - shift) * scale.
  float latent_shift = 0, latent_scale = 1;
};

constexpr size_t kListedRows = 64;

struct ColumnScan {
  double min, max, mean, std;  ///< over finite values; NaN if there are none. std: population
  int64_t non_finite;
  int64_t non_finite_rows;
  std::vector<int64_t> first_non_finite_rows;  ///< the first of them, at most kListedRows
  std::vector<double> histogram;
};

/// Any number of threads may read it: besides the cache of finite(), it does not change after construction.
class Dataset {
 public:
  /// Maps the files and checks that the segments of every column cover the rows [0, rows) in order, are
  /// within their files and aligned. Throws ERR_FILE_* or Error(ERR_DATA_SPEC).
  explicit Dataset(const DatasetSpec& spec);

  int64_t rows() const { return rows_; }
  float latent_shift() const { return latent_shift_; }
  float latent_scale() const { return latent_scale_; }
  /// Index of a role, or -1.
  int find(std::string_view role) const;
  /// Index of a role. Throws Error(ERR_DATA_COLUMN).
  int column(std::string_view role) const;
  int64_t width(int column) const { return columns_[column].width; }
  /// The `width` elements of one row, in mapped memory. Throws Error(ERR_DATA_ROW) if the row is out of
  /// range. Call require_whole() after reading and before using the values.
  const void* row(int column, int64_t row) const;
  /// Throws Error(ERR_FILE_TRUNCATED) if a file was truncated while it was read. Costs one load if no file
  /// was.
  void require_whole() const;
  /// Whether all values of a row are finite, in every column: a property of the row, whichever of its
  /// captions is used. Reads them once. Throws the errors of row() and require_whole().
  bool finite(int64_t row) const;
  /// Converts one row [tokens, width / tokens] to `type`, F32 or BF16; its tokens are `stride` elements apart
  /// in `out`. Throws Error(ERR_DATA_ROW); call require_whole() as after row().
  void read(int column, int64_t row, DType type, void* out, int64_t tokens = 1, int64_t stride = 0) const;
  /// One row as fp32, `width` elements. Throws the errors of row() and require_whole().
  void row_f32(int column, int64_t row, float* out) const;
  /// Statistics of the rows [from, to). histogram: `bins` equal bins over [low, high], which do not count
  /// non-finite values and values outside.
  ColumnScan scan(int column, int64_t from, int64_t to, double low, double high, int bins) const;

 private:
  struct Segment {
    const uint8_t* data;
    int64_t first_row, rows;
  };
  struct Column {
    std::string role;
    Stored type;
    int64_t width, row_bytes;
    std::vector<Segment> segments;
  };
  std::vector<std::unique_ptr<MappedFile>> files_;
  std::vector<Column> columns_;
  std::vector<int64_t> order_;
  int64_t rows_, stored_rows_;
  float latent_shift_, latent_scale_;
  enum Finite : uint8_t { kUnknown, kFinite, kNonFinite };
  std::unique_ptr<std::atomic<uint8_t>[]> finite_;  ///< of each row; several threads may find the same
};

}  // namespace orch
