// The stream on which the state is copied to the host while the device computes.
#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <deque>
#include <memory>

namespace orch::kernels::cuda {

/// See graph::Device, of which download() and await_download() may be called by another thread than the
/// others.
class SnapshotStream {
 public:
  explicit SnapshotStream(cudaStream_t compute_stream);
  void wait_for_compute_stream();
  void make_compute_stream_wait();
  void download(void* to, const void* from, size_t bytes);
  void await_download();

 private:
  const cudaStream_t compute_stream_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t event_ = nullptr;        // of the thread that drives the device
  std::deque<cudaEvent_t> downloads_;  // of the thread that downloads
};

/// graph::Device::page_lock() for this device.
std::shared_ptr<void> page_locked(void* memory, size_t bytes, int ordinal);

}  // namespace orch::kernels::cuda
