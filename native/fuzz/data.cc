// Any metadata and any bytes of a data set: they are read, or refused by an Error. Built and run by
// scripts/fuzz-native.sh, with clang's libFuzzer, AddressSanitizer and UBSan.
#include <fcntl.h>
#include <fuzzer/FuzzedDataProvider.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "../core/error.h"
#include "../data/batch.h"
#include "../data/dataset.h"

// Those of one instruction set are enough: the others would take minutes to compile.
namespace orch::kernels {
namespace generic {
const Table* table();
}
const Table& cpu() { return *generic::table(); }
}  // namespace orch::kernels

namespace {

using namespace orch;

constexpr const char* kRoles[] = {
    "latent",          "latent_logvar",          "original.clip_l",  "original.clip_l_pooled",
    "original.clip_g", "original.clip_g_pooled", "original.t5",      "original.context",
    "original.pooled", "synthetic.context",      "synthetic.pooled", "other"};
/// A data set of a fuzzed run has fewer rows and narrower ones; what is larger is refused or is tested by
/// sizes.
constexpr int64_t kMostRows = 64, kWidest = 512;

/// Mostly a number in the range, sometimes any.
int64_t number(FuzzedDataProvider& in, int64_t from, int64_t to) {
  return in.ConsumeIntegralInRange(0, 15) == 0 ? in.ConsumeIntegral<int64_t>()
                                               : in.ConsumeIntegralInRange(from, std::max(from, to));
}

/// A file in memory.
class File {
 public:
  explicit File(const std::string& bytes) : fd_(memfd_create("fuzz", 0)) {
    if (fd_ < 0 || write(fd_, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) std::abort();
  }
  ~File() { close(fd_); }
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }
  void cut(off_t bytes) {
    if (ftruncate(fd_, bytes) != 0) std::abort();
  }

 private:
  int fd_;
};

DatasetSpec spec_of(FuzzedDataProvider& in, const std::string& path, int64_t bytes) {
  DatasetSpec spec;
  spec.files = {{path, in.ConsumeIntegralInRange(0, 15) == 0 ? number(in, 0, 4096) : bytes}};
  spec.stored_rows = in.ConsumeIntegralInRange<int64_t>(-1, kMostRows);
  const int selected = in.ConsumeIntegralInRange(0, 4);
  for (int i = 0; i < selected; i++) spec.order.push_back(number(in, 0, spec.stored_rows - 1));
  const int columns = in.ConsumeIntegralInRange(0, 6);
  for (int c = 0; c < columns; c++) {
    ColumnSpec column;
    column.role = in.PickValueInArray(kRoles);
    column.type = in.PickValueInArray({Stored::F16, Stored::BF16, Stored::F32, Stored::F64});
    const auto size = static_cast<int64_t>(size_of(column.type));
    column.width = number(in, 1, 16);
    column.row_bytes = in.ConsumeBool() && column.width > 0 && column.width < kWidest ? column.width * size
                                                                                      : number(in, 0, 256);
    const int segments = in.ConsumeIntegralInRange(1, 3);
    int64_t next = 0;
    for (int s = 0; s < segments; s++) {
      int64_t left;
      if (__builtin_sub_overflow(spec.stored_rows, next, &left)) break;
      const int64_t rows = s + 1 == segments ? left : number(in, 0, left);
      column.segments.push_back({number(in, 0, 0),
                                 in.ConsumeIntegralInRange(0, 15) == 0 ? number(in, 0, 9) : next, rows,
                                 number(in, 0, 64) / size * size});
      if (__builtin_add_overflow(next, rows, &next)) break;
    }
    spec.columns.push_back(std::move(column));
  }
  return spec;
}

void read_all(FuzzedDataProvider& in, const std::shared_ptr<const Dataset>& data, const DatasetSpec& spec) {
  for (size_t c = 0; c < spec.columns.size(); c++) {
    const int64_t width = spec.columns[c].width;
    if (width > kWidest) continue;
    std::vector<float> row(static_cast<size_t>(width));
    for (int64_t r = 0; r < data->rows(); r++) {
      data->row_f32(static_cast<int>(c), r, row.data());
      data->finite(r);
    }
    data->scan(static_cast<int>(c), number(in, 0, 0), number(in, 0, data->rows()),
               in.ConsumeFloatingPoint<double>(), in.ConsumeFloatingPoint<double>(),
               static_cast<int>(number(in, 0, 16)));
  }
}

void assemble(FuzzedDataProvider& in, const std::shared_ptr<const Dataset>& data) {
  TextSpec text{};
  for (int64_t* side : {&text.clip_tokens, &text.t5_tokens, &text.clip_l_dim, &text.clip_g_dim, &text.t5_dim,
                        &text.clip_l_pooled_dim, &text.clip_g_pooled_dim})
    *side = in.ConsumeIntegralInRange<int64_t>(1, 8);
  const int64_t latent = in.ConsumeIntegralInRange<int64_t>(1, 16);
  const DType type = in.ConsumeBool() ? DType::F32 : DType::BF16;
  const BatchAssembler assembler(data, text, latent, type);
  std::vector<float> x0(static_cast<size_t>(latent));
  std::vector<uint8_t> context(static_cast<size_t>(text.context_tokens() * text.context_dim()) *
                               size_of(type));
  std::vector<uint8_t> pooled(static_cast<size_t>(text.pooled_dim()) * size_of(type));
  for (int i = 0; i < 4; i++)
    assembler.assemble(number(in, 0, data->rows() - 1), in.ConsumeBool(), in.ConsumeIntegral<uint8_t>() & 15,
                       {}, x0.data(), context.data(), pooled.data());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  FuzzedDataProvider in(bytes, size);
  const std::string content = in.ConsumeBytesAsString(in.ConsumeIntegralInRange<size_t>(0, 2048));
  File file(content);
  const bool cuts = in.ConsumeIntegralInRange(0, 31) == 0;
  const DatasetSpec spec = spec_of(in, file.path(), static_cast<int64_t>(content.size()));
  try {
    const auto data = std::make_shared<const Dataset>(spec);
    if (cuts) file.cut(0);
    if (in.ConsumeBool())
      read_all(in, data, spec);
    else
      assemble(in, data);
  } catch (const Error&) {
  }
  return 0;
}
