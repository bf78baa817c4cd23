// A device with memory of its own and one queue of work. Kernels, matmuls and copies are put on the queue and
// run in that order; nothing here waits unless it says so. One thread at a time.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "graph.h"
#include "transport.h"

namespace orch::graph {

/// Work that was recorded once and can be queued again at the price of one launch.
class Recording {
 public:
  virtual ~Recording() = default;
  virtual void replay() = 0;
};

class Device : public Backend {
 public:
  struct Description {
    std::string name;       ///< "NVIDIA H200"
    std::string libraries;  ///< "CUDA 13.0, cuBLASLt 13.1.1, NCCL 2.30.7"
    size_t memory_bytes;
    std::string problem;  ///< why it cannot be used, or nothing
  };
  virtual Description describe() const = 0;

  /// 256-byte aligned. Throws Error(ERR_OUT_OF_MEMORY).
  virtual void* allocate(size_t bytes) = 0;
  virtual void release(void* memory, size_t bytes) = 0;
  /// Of the device, held by this process: what allocate() gave, and workspaces. From any thread.
  virtual size_t held_bytes() const = 0;
  /// Host memory that copies reach without a detour.
  virtual void* allocate_host(size_t bytes) = 0;
  virtual void release_host(void* memory) = 0;

  /// `from` must stay as it is until the queue has come there.
  virtual void upload(void* to, const void* from, size_t bytes) = 0;
  virtual void download(void* to, const void* from, size_t bytes) = 0;
  virtual void copy(void* to, const void* from, size_t bytes) = 0;
  virtual void fill(void* to, int byte, size_t bytes) = 0;

  /// Uploads beside the queue, from the device's host memory: they land while the queue works, those queued
  /// from now on not before the queue has come here ...
  virtual void hold_uploads() = 0;
  virtual void upload_beside(void* to, const void* from, size_t bytes) = 0;
  /// ... and what is queued from now on finds those until now landed.
  virtual void join_uploads() = 0;

  /// Waits for the queue. Errors of work on it show here.
  virtual void synchronize() = 0;
  /// A place on the queue, and waiting for the queue to come there.
  virtual uint64_t mark() = 0;
  virtual void await(uint64_t mark) = 0;

  /// Runs `work` with the queue recording. Everything it queues must have run once before, so that no memory
  /// has to be allocated for it.
  virtual std::unique_ptr<Recording> record(const std::function<void()>& work) = 0;
  /// Seconds that the queue takes for `work`; waits.
  virtual double time(const std::function<void()>& work) = 0;

  /// Seconds of one product with each of the algorithms that the library offers, best guess first.
  virtual std::vector<double> matmul_times(const MatmulSpec& spec) = 0;
  /// What was launched since the last call, recordings being one launch each; blocks and bytes that launches
  /// asked for; and how often memory was.
  struct Launches {
    int64_t count, most_blocks;
    size_t most_shared, workspace;
    int64_t replays, allocations;
  };
  virtual Launches take_launches() = 0;

  /// What ranks with a device each tell each other before they connect, printable: "GPU-UUID/library/", which
  /// must be another and the same in all, and of the one that leads where the others find it, once.
  /// Throws Error(ERR_CUDA) saying why this device can be connected to no other.
  virtual std::string offer(bool leads) = 0;
  /// Takes place `rank`, with what rank 0 offered. Waits for nobody: the transport's calls do.
  virtual std::unique_ptr<Transport> connect(const std::string& leader, int rank, int ranks) = 0;
};

/// Work that is the same each time: done as it is the first time, and from then on as a recording.
class Repeated {
 public:
  void operator()(Device& device, const std::function<void()>& work) {
    if (!std::exchange(ran_, true)) return work();
    if (!recording_) recording_ = device.record(work);
    recording_->replay();
  }

 private:
  bool ran_ = false;
  std::unique_ptr<Recording> recording_;
};

/// Memory of a device, or its host memory; move-only.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  DeviceMemory(Device& device, size_t bytes, bool on_host = false)
      : device_(&device),
        data_(on_host ? device.allocate_host(bytes) : device.allocate(bytes)),
        bytes_(bytes),
        on_host_(on_host) {}
  DeviceMemory(DeviceMemory&& o) noexcept { *this = std::move(o); }
  DeviceMemory& operator=(DeviceMemory&& o) noexcept {
    std::swap(device_, o.device_);
    std::swap(data_, o.data_);
    std::swap(bytes_, o.bytes_);
    std::swap(on_host_, o.on_host_);
    return *this;
  }
  ~DeviceMemory() {
    if (data_) on_host_ ? device_->release_host(data_) : device_->release(data_, bytes_);
  }
  void* data() const { return data_; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  Device* device_ = nullptr;
  void* data_ = nullptr;
  size_t bytes_ = 0;
  bool on_host_ = false;
};

/// What open_cuda() can be asked for, by number. Throws Error(ERR_CUDA) saying why there is nothing.
std::vector<Device::Description> cuda_devices();

/// Opens CUDA device `ordinal` through liborchestrator_cuda.so, which lies beside this program or library or
/// in its folder Release, or where ORCHESTRATOR_CUDA says; -1: a device that plans and launches nothing.
/// Throws Error(ERR_CUDA) saying why not.
Device& open_cuda(int ordinal);

}  // namespace orch::graph
