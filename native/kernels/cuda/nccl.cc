#include "nccl.h"

#include "../../core/error.h"

#if __has_include(<nccl.h>)
#include <dlfcn.h>
#include <nccl.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "device.h"
#include "queue.h"
#endif

namespace orch::kernels::cuda {

#ifndef NCCL_VERSION_CODE

namespace {
constexpr const char* kOff =
    "NCCL is off: nccl.h was not found when the CUDA library was built (ORCH_CUDA_ROOTS)";
}
std::string nccl_rendezvous(bool) { throw Error("ERR_CUDA", kOff); }
std::unique_ptr<graph::Transport> nccl_connect(const std::string&, int, int) {
  throw Error("ERR_CUDA", kOff);
}

#else
namespace {

constexpr int kOldest = NCCL_VERSION(2, 18, 1);  // the first version with complete non-blocking communicators

std::string version_text(int code) {
  return std::to_string(code / 10000) + "." + std::to_string(code / 100 % 100) + "." +
         std::to_string(code % 100);
}

/// The functions of the library that are used: their names here and there.
#define ORCH_NCCL_FUNCTIONS(EACH)          \
  EACH(get_version, ncclGetVersion)        \
  EACH(get_unique_id, ncclGetUniqueId)     \
  EACH(init, ncclCommInitRankConfig)       \
  EACH(async_error, ncclCommGetAsyncError) \
  EACH(abort, ncclCommAbort)               \
  EACH(error_string, ncclGetErrorString)   \
  EACH(last_error, ncclGetLastError)       \
  EACH(group_start, ncclGroupStart)        \
  EACH(group_end, ncclGroupEnd)            \
  EACH(send, ncclSend)                     \
  EACH(receive, ncclRecv)                  \
  EACH(all_gather, ncclAllGather)

struct Library {
#define ORCH_DECLARE(name, symbol) decltype(&symbol) name;
  ORCH_NCCL_FUNCTIONS(ORCH_DECLARE)
  int version = 0;
  std::string missing;  ///< why the library cannot be used; empty if it can
};

Library open() {
  Library l{};
  void* so = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
  if (!so) {
    l.missing = dlerror();
    return l;
  }
#define ORCH_FIND(name, symbol)                                     \
  l.name = reinterpret_cast<decltype(&symbol)>(dlsym(so, #symbol)); \
  if (!l.name) l.missing = #symbol " is missing in libnccl.so.2";
  ORCH_NCCL_FUNCTIONS(ORCH_FIND)
  if (!l.missing.empty()) return l;
  if (l.get_version(&l.version) != ncclSuccess) l.version = 0;
  if (l.version < kOldest)
    l.missing = "libnccl.so.2 is " + version_text(l.version) + "; " + version_text(kOldest) + " is needed";
  return l;
}

const Library& library() {
  static const Library opened = open();
  return opened;
}

/// Throws Error(ERR_CUDA) if the library cannot be used.
const Library& nccl() {
  if (!library().missing.empty()) throw Error("ERR_CUDA", "NCCL is off: ", library().missing);
  return library();
}

std::string explain(ncclResult_t status, ncclComm_t comm) {
  const char* details = library().last_error(comm);
  return library().error_string(status) + std::string(details && *details ? ": " : "") +
         (details ? details : "");
}

/// A non-blocking communicator (ncclConfig_t::blocking = 0): calls return immediately, ncclCommGetAsyncError
/// reports when they are done, and only then may the next call be made. All of the library's functions are
/// called by the thread that drives the device; abort() only sets a flag, which that thread sees at its next
/// poll.
class NcclTransport final : public graph::Transport {
 public:
  NcclTransport(int rank, int ranks) : rank_(rank), ranks_(ranks) {}

  void begin(const ncclUniqueId& id) {
    int least = 0, greatest = 0;
    check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cudaDeviceGetStreamPriorityRange");
    check(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, greatest), "cudaStreamCreate");
    check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreate");
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    doing_ = "ncclCommInitRankConfig";
    started(nccl().init(&comm_, ranks_, id, rank_, &config));
  }

  ~NcclTransport() override {
    // A library that ends on a thread of its own still uses the stream.
    if (abort_communicator() == ncclInProgress) return;
    if (event_) cudaEventDestroy(event_);
    if (stream_) cudaStreamDestroy(stream_);
  }

  void send_receive(const std::vector<Transfer>& transfers) override {
    await_last_call();
    doing_ = "send/recv";
    ncclResult_t status = nccl().group_start();
    for (const Transfer& t : transfers) {
      if (status != ncclSuccess) break;
      const auto elements = static_cast<size_t>(t.elements);
      status = t.direction == Transfer::Send
                   ? nccl().send(t.data, elements, ncclFloat32, t.peer, comm_, stream_)
                   : nccl().receive(t.data, elements, ncclFloat32, t.peer, comm_, stream_);
      if (status == ncclInProgress) status = ncclSuccess;
    }
    const ncclResult_t end = nccl().group_end();
    started(status == ncclSuccess ? end : status);
  }

  void all_gather(float* shares, int64_t elements) override {
    await_last_call();
    doing_ = "all-gather";
    started(nccl().all_gather(shares + rank_ * elements, shares, static_cast<size_t>(elements), ncclFloat32,
                              comm_, stream_));
  }

  void add(float* to, const float* a, const float* b, int64_t elements) override {
    await_last_call();
    const OnStream on(stream_);
    table().f32.add(to, a, b, elements);
  }

  void wait_for_compute_stream() override { stream_wait(stream_, compute_stream()); }
  void make_compute_stream_wait() override { stream_wait(compute_stream(), stream_); }

  void wait() override {
    await_last_call();
    check(cudaEventRecord(event_, stream_), "cudaEventRecord");
    poll([this] {
      const cudaError_t status = cudaEventQuery(event_);
      if (status == cudaErrorNotReady) {
        poll_state();
        return false;
      }
      check(status, "cudaEventQuery");
      return true;
    });
  }

  void abort() override { aborted_ = true; }

 private:
  /// Stream wait: work enqueued on `after` from now on waits for the work that is on `before` now. The
  /// library's work is on its stream once the communicator's state is ncclSuccess, so poll for that first.
  void stream_wait(cudaStream_t after, cudaStream_t before) {
    await_last_call();
    check(cudaEventRecord(event_, before), "cudaEventRecord");
    check(cudaStreamWaitEvent(after, event_), "cudaStreamWaitEvent");
  }

  void started(ncclResult_t status) {
    if (status != ncclSuccess && status != ncclInProgress) fail(status);
  }

  /// Queries the communicator's state (ncclCommGetAsyncError). Throws if it is an error.
  ncclResult_t poll_state() {
    ncclResult_t state = ncclSuccess;
    started(nccl().async_error(comm_, &state));
    started(state);
    return state;
  }
  /// Polls until the last call is done.
  void await_last_call() {
    poll([this] { return poll_state() == ncclSuccess; });
  }
  template <class Done>
  void poll(const Done& done) {
    for (int polls = 0;; ++polls) {
      if (aborted_ || !comm_) {
        abort_communicator();
        throw Error("ERR_EXCHANGE", "The exchange was closed");
      }
      if (done()) return;
      if (polls < 1000)
        std::this_thread::yield();
      else
        std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }

  [[noreturn]] void fail(ncclResult_t status) {
    const std::string why = explain(status, comm_);
    abort_communicator();
    throw Error("ERR_EXCHANGE", "NCCL, ", doing_, ": ", why);
  }
  /// Aborts the communicator (ncclCommAbort): its kernels end, so the streams that wait for them continue.
  /// The additions after them still write into the gradient, so the compute stream waits for them.
  ncclResult_t abort_communicator() {
    if (!comm_) return ncclSuccess;
    const ncclResult_t status = library().abort(std::exchange(comm_, nullptr));
    if (cudaEventRecord(event_, stream_) == cudaSuccess) cudaStreamWaitEvent(compute_stream(), event_);
    return status;
  }

  const int rank_, ranks_;
  ncclComm_t comm_ = nullptr;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t event_ = nullptr;
  const char* doing_ = "";
  std::atomic<bool> aborted_{false};
};

constexpr char kDigits[] = "0123456789abcdef";

}  // namespace

// "NCCL 2.30.7/", followed on the leader by the unique id (ncclGetUniqueId) in hexadecimal.
std::string nccl_rendezvous(bool leads) {
  std::string text = "NCCL " + version_text(nccl().version) + "/";
  if (!leads) return text;
  ncclUniqueId id;
  const ncclResult_t status = nccl().get_unique_id(&id);
  if (status != ncclSuccess) throw Error("ERR_CUDA", "NCCL is off: ", explain(status, nullptr));
  for (const char c : id.internal) {
    text += kDigits[static_cast<unsigned char>(c) >> 4];
    text += kDigits[c & 15];
  }
  return text;
}

std::unique_ptr<graph::Transport> nccl_connect(const std::string& leader, int rank, int ranks) {
  ncclUniqueId id;
  const std::string digits = leader.substr(leader.rfind('/') + 1);
  if (digits.size() != 2 * sizeof id.internal || digits.find_first_not_of(kDigits) != std::string::npos)
    throw Error("ERR_EXCHANGE", "The rendezvous string of rank 0 contains no NCCL unique id");
  for (size_t i = 0; i < sizeof id.internal; ++i)
    id.internal[i] = static_cast<char>(std::stoi(digits.substr(2 * i, 2), nullptr, 16));
  auto transport = std::make_unique<NcclTransport>(rank, ranks);
  transport->begin(id);
  return transport;
}
#endif

}  // namespace orch::kernels::cuda
