// The emulated device: kernels run on the CPU through emulate.h; matmuls are plain sums.
#include "../device.h"

#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "../../../core/elementary.h"
#include "../../../core/error.h"
#include "../../../core/float8.h"
#include "../context.h"
#include "downloads.h"
#include "emulated_device.h"
#include "transport.h"

namespace orch::kernels::cuda {
namespace {

// Several devices of a process may work at a time, each on a thread of its own.
thread_local graph::Device::Launches launches{};
int ordinal = 0;
int device_count() {
  const char* given = std::getenv("ORCHESTRATOR_EMULATED_GPUS");
  return given ? std::max(1, std::atoi(given)) : 1;
}

/// As long as the file ORCHESTRATOR_EMULATED_HANG is there, the next kernel takes it away and hangs.
void hang_if_asked() {
  static const char* const path = std::getenv("ORCHESTRATOR_EMULATED_HANG");
  if (path != nullptr && unlink(path) == 0)
    for (;;) pause();
}

void* poisoned(size_t bytes) {
  void* p = std::aligned_alloc(kAlign, rounded(bytes));
  std::memset(p, 0xff, bytes);
  return p;
}

/// Replays work with the arguments of its capture, as a GPU does, and with its own workspaces, which are
/// filled with NaN each time.
struct Replayed {
  ~Replayed() {
    for (void* p : workspaces) std::free(p);
  }
  void replay() const {
    launches.replays += 1;
    for (const auto& w : work) {
      hang_if_asked();
      w();
    }
  }
  std::vector<std::function<void()>> work;
  std::vector<void*> workspaces;
};
thread_local Replayed* recording = nullptr;
thread_local std::unique_ptr<void, void (*)(void*)> workspace_memory{nullptr, std::free};

/// Rejects what a stream rejects during capture.
void reject_during_capture(const char* what) {
  if (recording) throw Error("ERR_INTERNAL", what, " cannot be captured");
}

float widen(const void* from, DType t, int64_t i) {
  switch (t) {
    case DType::F32:
      return static_cast<const float*>(from)[i];
    case DType::E4M3:
      return float8::to_float<E4M3>(static_cast<const uint8_t*>(from)[i]);
    case DType::E5M2:
      return float8::to_float<E5M2>(static_cast<const uint8_t*>(from)[i]);
    default:
      return to_float(static_cast<const bf16*>(from)[i]);
  }
}
std::vector<float> widen_all(const void* from, DType t, int64_t n) {
  std::vector<float> x(n);
  for (int64_t i = 0; i < n; ++i) x[i] = widen(from, t, i);
  return x;
}

std::vector<float> transposed(const std::vector<float>& from, int64_t rows, int64_t columns) {
  std::vector<float> x(from.size());
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) x[j * rows + i] = from[i * columns + j];
  return x;
}

/// The epilogues by definition, in double precision: x sigmoid(2u) with u = sqrt(2 / pi) (x + 0.044715 x^3).
double gelu_sigmoid(double x) {
  return 1 / (1 + elementary::exp(-1.5957691216057308 * (x + 0.044715 * x * x * x)));
}
float gelu(float x) { return static_cast<float>(x * gelu_sigmoid(x)); }
float gelu_slope(float x) {
  const double s = gelu_sigmoid(x);
  return static_cast<float>(s + x * s * (1 - s) * 1.5957691216057308 * (1 + 3 * 0.044715 * x * x));
}

struct Factors {
  const float *a, *b;
};
/// auxiliary: what GELU is applied to, written or read.
void multiply(const graph::MatmulSpec& s, const void* a_, const void* b_, const void* bias_, Factors factors,
              void* c, float* sums, bf16* auxiliary) {
  const auto a = widen_all(a_, s.a, s.m * s.k);
  auto b = widen_all(b_, s.b, s.k * s.n);
  const float factor = factors.a ? *factors.a * *factors.b : 1.0f;
  if (s.transpose_b) b = transposed(b, s.n, s.k);
  const auto bias = s.bias ? widen_all(bias_, s.bias_type, s.n) : std::vector<float>(s.n);
  std::vector<float> row(s.n);
  for (int64_t i = 0; s.sums && i < s.m; ++i) {
    sums[i] = 0;
    for (int64_t p = 0; p < s.k; ++p) sums[i] += a[s.transpose_a ? p * s.m + i : i * s.k + p];
  }
  for (int64_t i = 0; i < s.m; ++i) {
    std::fill(row.begin(), row.end(), 0.0f);
    for (int64_t p = 0; p < s.k; ++p) {
      const float x = a[s.transpose_a ? p * s.m + i : i * s.k + p];
      for (int64_t j = 0; j < s.n; ++j) row[j] += x * b[p * s.n + j];
    }
    for (int64_t j = 0; j < s.n; ++j) {
      float y = factor * row[j] + bias[j];
      if (s.epilogue == graph::Epilogue::GeluKeep) auxiliary[i * s.n + j] = to_bf16(y);
      if (s.epilogue == graph::Epilogue::GeluBackward)
        y *= gelu_slope(to_float(auxiliary[i * s.n + j]));
      else if (s.epilogue != graph::Epilogue::None)
        y = gelu(y);
      if (s.c == DType::BF16) {
        bf16& to = static_cast<bf16*>(c)[i * s.n + j];
        to = to_bf16(s.accumulate ? to_float(to) + y : y);
      } else {
        float& to = static_cast<float*>(c)[i * s.n + j];
        to = s.accumulate ? to + y : y;
      }
    }
  }
}

class EmulatedDevice final : public TableDevice {
 public:
  explicit EmulatedDevice(AtCall at_call = nullptr) : at_call_(std::move(at_call)) {}
  /// Those of the calling thread.
  Launches take_launches() override { return std::exchange(launches, {}); }
  /// The name makes clear, wherever it is shown, that this is not a GPU.
  Description describe() const override {
    return {"emulated GPU (runs on the CPU, for tests)", "no CUDA, no cuBLASLt", size_t{4} << 30, ""};
  }
  DType bias_type(const graph::MatmulSpec& spec) const override { return spec.c; }
  bool sums_with(const graph::MatmulSpec&) const override { return true; }
  bool fuses(const graph::MatmulSpec& spec) const override {
    return spec.a == DType::BF16 && spec.c == DType::BF16 && gelu_choice() != "separate";
  }
  std::string float8_problem() const override { return ""; }
  std::unique_ptr<graph::Op> matmul(const char* name, const graph::MatmulSpec& spec) const override {
    const auto run = [spec](const graph::Run& r) {
      const auto product = [&](float* sums) {
        graph::MatmulSpec s = spec;
        s.accumulate = spec.accumulate || r.adds;
        bf16* const auxiliary = s.epilogue == graph::Epilogue::GeluKeep ? r.out<bf16>(1)
                                : s.epilogue == graph::Epilogue::GeluBackward
                                    ? const_cast<bf16*>(r.in<bf16>(3))
                                    : nullptr;
        const Factors factors =
            is_float8(s.a) ? Factors{r.in<float>(3), r.in<float>(4)} : Factors{nullptr, nullptr};
        submit([=, a = r.in<void>(0), b = r.in<void>(1), bias = r.in<void>(2), c = r.out<void>(0)] {
          multiply(s, a, b, bias, factors, c, sums, auxiliary);
        });
      };
      if (spec.sums) return graph::write_gradient(r, r.out<float>(1), spec.m, product);
      product(nullptr);
    };
    return graph::make_op(name, run,
                          {.flops = spec.flops(),
                           .scratch_bytes = spec.sums ? sizeof(float) * static_cast<size_t>(spec.m) : 0});
  }
  std::vector<double> matmul_times(const graph::MatmulSpec& s) override {
    const std::vector<float> a(s.m * s.k), b(s.k * s.n), bias(s.m + s.n);
    std::vector<float> c(s.m * s.n), sums(s.m), auxiliary(s.m * s.n);
    const void* pointers[] = {a.data(), b.data(), bias.data(), c.data(), sums.data(), auxiliary.data()};
    const graph::Ref inputs[] = {{0}, {1}, {2}, {5}}, outputs[] = {{3}, {s.sums ? 4 : 5}};
    const graph::Run run{
        const_cast<void* const*>(pointers), inputs, outputs, nullptr, nullptr, 0, 1, table()};
    return {time([&] { matmul("matmul", s)->run(run); })};
  }

  Buffer allocate(size_t bytes) override { return made(bytes, true); }
  Buffer allocate_host(size_t bytes) override { return made(bytes, false); }
  void download(void* to, const void* from, size_t bytes) override {
    reject_during_capture("A download");
    if (bytes) std::memcpy(to, from, bytes);
  }
  void copy(void* to, const void* from, size_t bytes) override {
    submit([=] {
      if (bytes) std::memcpy(to, from, bytes);
    });
  }
  void fill(void* to, int byte, size_t bytes) override {
    submit([=] { std::memset(to, byte, bytes); });
  }
  void make_copy_stream_wait() override { reject_during_capture("A stream wait"); }
  /// The copy happens as late as allowed; until then the memory has no usable values.
  void upload_async(void* to, const void* from, size_t bytes) override {
    std::memset(to, 0xff, bytes);
    uploads_.push_back([=] { std::memcpy(to, from, bytes); });
  }
  void wait_for_copy_stream() override {
    reject_during_capture("A stream wait");
    finish_copies();
  }
  void make_snapshot_stream_wait() override {
    reject_during_capture("A stream wait");
    downloads_.begin(contents());
  }
  void download_async(void* to, const void* from, size_t bytes) override {
    reject_during_capture("A download");
    downloads_.enqueue(to, from, bytes);
  }
  void await_download() override { downloads_.await_next(); }
  void wait_for_snapshot_stream() override {
    reject_during_capture("A stream wait");
    downloads_.finish();
  }
  std::shared_ptr<void> page_lock(void* memory, size_t bytes) override {
    return downloads_.page_lock(memory, bytes);
  }
  void synchronize() override { reject_during_capture("A synchronization"); }
  uint64_t record_event() override {
    reject_during_capture("An event");
    return 0;
  }
  std::function<void()> record(const std::function<void()>& work) override {
    const auto made = std::make_shared<Replayed>();
    recording = made.get();
    try {
      work();
    } catch (...) {
      recording = nullptr;
      throw;
    }
    recording = nullptr;
    return [made] { made->replay(); };
  }
  double time(const std::function<void()>& work) override {
    const auto start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  std::string rendezvous(bool leads) override { return emulated_rendezvous(ordinal, leads); }
  std::unique_ptr<graph::Transport> connect(const std::string& leader, int rank, int ranks) override {
    return emulated_connect(
        leader, rank, ranks, [this] { return contents(); }, at_call_);
  }

 private:
  /// Freed not before the streams are idle, as in CUDA.
  Buffer made(size_t bytes, bool on_device) {
    reject_during_capture("An allocation");
    launches.allocations += 1;
    char* const p = static_cast<char*>(poisoned(bytes));
    if (on_device) {
      std::lock_guard lock(memory_mutex_);
      memory_[p] = bytes;
      held_ += rounded(bytes);
    }
    const auto release = [this, on_device](void* memory) {
      finish_copies();
      downloads_.finish();
      if (on_device) {
        std::lock_guard lock(memory_mutex_);
        held_ -= rounded(memory_.extract(static_cast<char*>(memory)).mapped());
      }
      std::free(memory);
    };
    return {{p, release}, bytes};
  }
  Contents contents() {
    std::lock_guard lock(memory_mutex_);
    Contents now;
    for (const auto& [start, bytes] : memory_) now.emplace(start, std::vector(start, start + bytes));
    return now;
  }
  void finish_copies() {
    for (const auto& u : uploads_) u();
    uploads_.clear();
  }
  std::vector<std::function<void()>> uploads_;
  Downloads downloads_;
  const AtCall at_call_;
  std::mutex memory_mutex_;
  std::map<char*, size_t> memory_;  ///< what is allocated on the device
};

}  // namespace

bool has_warpgroups() { return emulate::warpgroups; }
void submit(std::function<void()> work) {
  if (recording) {
    recording->work.push_back(std::move(work));
  } else {
    hang_if_asked();
    work();
  }
}
void synchronize() { reject_during_capture("A synchronization"); }
std::shared_ptr<void> device_memory(size_t bytes) {
  reject_during_capture("An allocation");
  return {poisoned(bytes), std::free};
}
void download(void* to, const void* from, size_t bytes) {
  reject_during_capture("A download");
  std::memcpy(to, from, bytes);
}
/// Every operation gets a new workspace, filled with NaN.
void* workspace_bytes(size_t bytes) {
  launches.workspace = std::max(launches.workspace, bytes);
  void* const fresh = poisoned(bytes);
  if (recording) {
    recording->workspaces.push_back(fresh);
    submit([=] { std::memset(fresh, 0xff, bytes); });
  } else {
    workspace_memory.reset(fresh);
  }
  return fresh;
}
bool may_launch(dim3 grid, dim3 block, size_t shared) {
  return count_launch(launches, {grid.x, grid.y, grid.z}, block.x * block.y * block.z, shared, kHopperShared);
}

graph::Device& emulated_device() {
  static EmulatedDevice device;
  return device;
}
std::unique_ptr<graph::Device> make_emulated_device(AtCall at_call) {
  return std::make_unique<EmulatedDevice>(std::move(at_call));
}
graph::Device* make_device(int number) {
  if (number < 0 || number >= device_count()) throw Error("ERR_CUDA", "There is no emulated device ", number);
  ordinal = number;
  return &emulated_device();
}
std::vector<graph::Device::Description> list_devices() {
  return std::vector(static_cast<size_t>(device_count()), emulated_device().describe());
}

}  // namespace orch::kernels::cuda
