// The CUDA device: streams, memory, recordings (CUDA graphs).
#include "device.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <deque>

#include "../../core/error.h"
#include "fused_gelu.h"
#include "matmul.h"
#include "nccl.h"
#include "queue.h"
#include "queue_state.h"
#include "snapshot_stream.h"

namespace orch::kernels::cuda {
namespace {

/// "NCCL 2.30.7", or why NCCL is not available.
std::string nccl_version() {
  try {
    const std::string rendezvous = nccl_rendezvous(false);
    return rendezvous.substr(0, rendezvous.find('/'));
  } catch (const Error& e) {
    return e.what();
  }
}

bool runs_warpgroups(int capability) {
  return attention_choice() != "portable" && built_for_warpgroups(ORCH_CUDA_BUILT_FOR, capability);
}

/// What the bits depend on, and NCCL. Workers compare it.
std::string libraries(int capability) {
  int runtime = 0;
  check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  const LibraryAttention* attention = library_attention();
  const std::string serves = runs_warpgroups(capability) && !(attention && attention->demanded)
                                 ? kHopperAttention
                             : attention ? attention->name
                                         : "no cuDNN";
  return "CUDA " + std::to_string(runtime / 1000) + "." + std::to_string(runtime % 1000 / 10) + ", kernels " +
         kCudaVersion + ", cuBLASLt " + matmul_version() + ", " + serves + ", " + nccl_version() +
         (gelu_choice().empty() ? "" : ", GELU " + gelu_choice());
}

int device_count() {
  int count = 0;
  check(cudaGetDeviceCount(&count), "No CUDA device");
  return count;
}

cudaDeviceProp properties_of(int ordinal) {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, ordinal), "cudaGetDeviceProperties");
  return properties;
}
int capability_of(const cudaDeviceProp& properties) { return 10 * properties.major + properties.minor; }

graph::Device::Description describe_device(int ordinal) {
  const cudaDeviceProp properties = properties_of(ordinal);
  std::string problem;
  if (!runs_on(ORCH_CUDA_BUILT_FOR, capability_of(properties)))
    problem = "compute capability " + std::to_string(properties.major) + "." +
              std::to_string(properties.minor) + "; the kernels are built for " ORCH_CUDA_BUILT_FOR;
  return {properties.name, libraries(capability_of(properties)), properties.totalGlobalMem, problem};
}

class CudaDevice final : public TableDevice {
 public:
  explicit CudaDevice(int ordinal) {
    context.plan_only = ordinal < 0;
    context.warpgroups = attention_choice() != "portable";
    context.launches = &launches_;
    context.held = &held_;
    if (context.plan_only) return;
    const int count = device_count();
    if (ordinal >= count) throw Error("ERR_CUDA", "There is no CUDA device ", ordinal, "; there are ", count);
    const Description d = describe_device(ordinal);
    if (!d.problem.empty()) throw Error("ERR_CUDA", d.name, ": ", d.problem);
    context.ordinal = ordinal;
    check(cudaSetDevice(ordinal), "cudaSetDevice");
    int most_shared = 0;
    check(cudaDeviceGetAttribute(&most_shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, ordinal),
          "cudaDeviceGetAttribute");
    context.most_shared = static_cast<size_t>(most_shared);
    context.warpgroups = runs_warpgroups(capability_of(properties_of(ordinal)));
    for (cudaStream_t* s : {&context.compute_stream, &context.copy_stream})
      check(cudaStreamCreateWithFlags(s, cudaStreamNonBlocking), "cudaStreamCreate");
    for (cudaEvent_t* e : {&begin_, &end_}) check(cudaEventCreate(e), "cudaEventCreate");
    for (cudaEvent_t* e : {&compute_event_, &copy_event_})
      check(cudaEventCreateWithFlags(e, cudaEventDisableTiming), "cudaEventCreate");
    snapshots_ = std::make_unique<SnapshotStream>(context.compute_stream);
  }

  Description describe() const override {
    return context.plan_only ? Description{"a device that only plans", libraries(90), 0, ""}
                             : describe_device(context.ordinal);
  }

  std::string attention_by(const AttentionDims& d, bool backward) override {
    enter();
    return TableDevice::attention_by(d, backward);
  }
  DType bias_type(const graph::MatmulSpec& spec) const override {
    enter();
    return cuda::bias_type(spec);
  }
  bool sums_with(const graph::MatmulSpec& spec) const override {
    enter();
    return cuda::sums_with(spec);
  }
  bool fuses(const graph::MatmulSpec& spec) const override {
    enter();
    return fuses_gelu(spec);
  }
  std::string float8_problem() const override {
    enter();
    if (context.plan_only) return "";
    const cudaDeviceProp properties = properties_of(context.ordinal);
    if (capability_of(properties) >= 89) return "";
    return std::string(properties.name) + " has compute capability " + std::to_string(properties.major) +
           "." + std::to_string(properties.minor) + ", and 8-bit floats need 8.9 (Ada, Hopper or newer)";
  }
  std::unique_ptr<graph::Op> matmul(const char* name, const graph::MatmulSpec& spec) const override {
    enter();
    return make_matmul(name, spec);
  }
  std::vector<double> matmul_times(const graph::MatmulSpec& spec) override {
    enter();
    return time_algorithms(spec, [this](const std::function<void()>& work) { return time(work); });
  }

  Buffer allocate(size_t bytes) override {
    enter();
    launches_.allocations += 1;
    if (context.plan_only) return {{planned_address(bytes), [](void*) {}}, bytes};
    void* p = nullptr;
    const cudaError_t status = cudaMalloc(&p, rounded(bytes));
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      throw Error("ERR_OUT_OF_MEMORY", "The device cannot allocate ", bytes >> 20, " MiB");
    }
    check(status, "cudaMalloc");
    held_ += rounded(bytes);
    const auto release = [this, bytes](void* memory) {
      cudaSetDevice(context.ordinal);  // not enter(), which may throw
      cudaFree(memory);
      held_ -= rounded(bytes);
    };
    return {{p, release}, bytes};
  }
  Buffer allocate_host(size_t bytes) override {
    enter();
    launches_.allocations += 1;
    if (context.plan_only) return {std::make_shared<char[]>(bytes), bytes};
    void* p = nullptr;
    check(cudaMallocHost(&p, std::max<size_t>(bytes, 1)), "cudaMallocHost");
    return {{p, [](void* memory) { cudaFreeHost(memory); }}, bytes};
  }

  void upload(void* to, const void* from, size_t bytes) override {
    copy_on(context.compute_stream, to, from, bytes, cudaMemcpyHostToDevice);
  }
  void make_copy_stream_wait() override {
    stream_wait(context.copy_stream, compute_event_, context.compute_stream);
  }
  void upload_async(void* to, const void* from, size_t bytes) override {
    copy_on(context.copy_stream, to, from, bytes, cudaMemcpyHostToDevice);
  }
  void wait_for_copy_stream() override {
    stream_wait(context.compute_stream, copy_event_, context.copy_stream);
  }
  void make_snapshot_stream_wait() override {
    enter();
    if (snapshots_) snapshots_->wait_for_compute_stream();
  }
  void download_async(void* to, const void* from, size_t bytes) override {
    enter();
    if (snapshots_) snapshots_->download(to, from, bytes);
  }
  void await_download() override {
    enter();
    if (snapshots_) snapshots_->await_download();
  }
  void wait_for_snapshot_stream() override {
    enter();
    if (snapshots_) snapshots_->make_compute_stream_wait();
  }
  std::shared_ptr<void> page_lock(void* memory, size_t bytes) override {
    enter();
    return snapshots_ ? page_locked(memory, bytes, context.ordinal) : nullptr;
  }
  void download(void* to, const void* from, size_t bytes) override {
    enter();
    cuda::download(to, from, bytes);
  }
  void copy(void* to, const void* from, size_t bytes) override {
    copy_on(context.compute_stream, to, from, bytes, cudaMemcpyDeviceToDevice);
  }
  void fill(void* to, int byte, size_t bytes) override {
    enter();
    if (!context.plan_only)
      check(cudaMemsetAsync(to, byte, bytes, context.compute_stream), "cudaMemsetAsync");
  }
  void synchronize() override {
    enter();
    cuda::synchronize();
  }

  uint64_t record_event() override {
    enter();
    if (context.plan_only) return 0;
    cudaEvent_t event;
    check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate");
    check(cudaEventRecord(event, context.compute_stream), "cudaEventRecord");
    events_.push_back(event);
    return first_event_ + events_.size();
  }
  void await_event(uint64_t event) override {
    enter();
    for (; !events_.empty() && first_event_ < event; ++first_event_) {
      check(cudaEventSynchronize(events_.front()), "cudaEventSynchronize");
      cudaEventDestroy(events_.front());
      events_.pop_front();
    }
  }

  std::function<void()> record(const std::function<void()>& work) override {
    enter();
    if (context.plan_only) {
      work();
      return [] {};
    }
    check(cudaStreamBeginCapture(context.compute_stream, cudaStreamCaptureModeThreadLocal),
          "cudaStreamBeginCapture");
    context.recording = true;
    std::exception_ptr failure;
    try {
      work();
    } catch (...) {
      failure = std::current_exception();
    }
    context.recording = false;
    cudaGraph_t graph = nullptr;
    const cudaError_t ended = cudaStreamEndCapture(context.compute_stream, &graph);
    const std::shared_ptr<std::remove_pointer_t<cudaGraph_t>> captured(graph, [](cudaGraph_t g) {
      if (g) cudaGraphDestroy(g);
    });
    if (failure) std::rethrow_exception(failure);
    check(ended, "cudaStreamEndCapture");
    cudaGraphExec_t executable = nullptr;
    const cudaError_t instantiated = cudaGraphInstantiate(&executable, graph, 0);
    check(instantiated, "cudaGraphInstantiate");
    const std::shared_ptr<std::remove_pointer_t<cudaGraphExec_t>> owner(executable, cudaGraphExecDestroy);
    return [this, owner] {
      check(cudaGraphLaunch(owner.get(), context.compute_stream), "cudaGraphLaunch");
      launches_.replays += 1;
    };
  }

  double time(const std::function<void()>& work) override {
    enter();
    if (context.plan_only) {
      work();
      return 0;
    }
    check(cudaEventRecord(begin_, context.compute_stream), "cudaEventRecord");
    work();
    check(cudaEventRecord(end_, context.compute_stream), "cudaEventRecord");
    check(cudaEventSynchronize(end_), "cudaEventSynchronize");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, begin_, end_), "cudaEventElapsedTime");
    return 1e-3 * milliseconds;
  }

  std::string rendezvous(bool leads) override {
    enter();
    if (context.plan_only) throw Error("ERR_CUDA", "A device that only plans cannot exchange gradients");
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, context.ordinal), "cudaGetDeviceProperties");
    std::string text = "GPU-";
    for (const char c : properties.uuid.bytes) {
      char digits[3];
      std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned char>(c));
      text += digits;
    }
    return text + "/" + nccl_rendezvous(leads);
  }
  std::unique_ptr<graph::Transport> connect(const std::string& leader, int rank, int ranks) override {
    enter();
    return nccl_connect(leader, rank, ranks);
  }

 private:
  /// Sets the CUDA runtime's current device, which is per thread.
  static void enter() {
    thread_local bool entered = false;
    if (entered || context.plan_only) return;
    check(cudaSetDevice(context.ordinal), "cudaSetDevice");
    entered = true;
  }

  static void copy_on(cudaStream_t stream, void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
    enter();
    if (!context.plan_only) check(cudaMemcpyAsync(to, from, bytes, kind, stream), "cudaMemcpyAsync");
  }

  /// Stream wait: `follower` waits until `leader` has reached its current end. The event can be reused at
  /// once, because a wait refers to the event as it was when the wait was enqueued.
  static void stream_wait(cudaStream_t follower, cudaEvent_t event, cudaStream_t leader) {
    enter();
    if (context.plan_only) return;
    check(cudaEventRecord(event, leader), "cudaEventRecord");
    check(cudaStreamWaitEvent(follower, event, 0), "cudaStreamWaitEvent");
  }

  cudaEvent_t begin_ = nullptr, end_ = nullptr, compute_event_ = nullptr, copy_event_ = nullptr;
  std::unique_ptr<SnapshotStream> snapshots_;  // null on a device that only plans
  std::deque<cudaEvent_t> events_;
  uint64_t first_event_ = 0;
};

}  // namespace

graph::Device* make_device(int ordinal) { return new CudaDevice(ordinal); }

std::vector<graph::Device::Description> list_devices() {
  std::vector<graph::Device::Description> devices;
  for (int i = 0; i < device_count(); ++i) devices.push_back(describe_device(i));
  return devices;
}

}  // namespace orch::kernels::cuda
