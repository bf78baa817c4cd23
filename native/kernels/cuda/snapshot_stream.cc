#include "snapshot_stream.h"

#include <sys/mman.h>

#include "../../core/error.h"
#include "queue.h"

namespace orch::kernels::cuda {

SnapshotStream::SnapshotStream(cudaStream_t compute_stream) : compute_stream_(compute_stream) {
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
  check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreate");
}

// The event can be used again at once, because a wait refers to it as it was when the wait was enqueued.
void SnapshotStream::wait_for_compute_stream() {
  check(cudaEventRecord(event_, compute_stream_), "cudaEventRecord");
  check(cudaStreamWaitEvent(stream_, event_, 0), "cudaStreamWaitEvent");
}

void SnapshotStream::make_compute_stream_wait() {
  check(cudaEventRecord(event_, stream_), "cudaEventRecord");
  check(cudaStreamWaitEvent(compute_stream_, event_, 0), "cudaStreamWaitEvent");
}

void SnapshotStream::download(void* to, const void* from, size_t bytes) {
  cudaEvent_t event = nullptr;
  // The thread that waits for it leaves its processor to others.
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming | cudaEventBlockingSync), "cudaEventCreate");
  downloads_.push_back(event);
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_), "cudaMemcpyAsync of the state");
  check(cudaEventRecord(event, stream_), "cudaEventRecord");
}

void SnapshotStream::await_download() {
  if (downloads_.empty()) return;
  const cudaEvent_t event = downloads_.front();
  downloads_.pop_front();
  const cudaError_t status = cudaEventSynchronize(event);
  cudaEventDestroy(event);
  check(status, "Copying the state from the device");
}

std::shared_ptr<void> page_locked(void* memory, size_t bytes, int ordinal) {
  // A program that this process starts must not take the pages from it, and has no use for them.
  madvise(memory, bytes, MADV_DONTFORK);
  const cudaError_t status = cudaHostRegister(memory, bytes, cudaHostRegisterDefault);
  if (status != cudaSuccess) {
    cudaGetLastError();  // so that it is not taken for that of a later call
    throw Error("ERR_CUDA", "cudaHostRegister: ", cudaGetErrorString(status), " (", cudaGetErrorName(status),
                ")");
  }
  return {memory, [ordinal](void* locked) {
            cudaSetDevice(ordinal);
            cudaHostUnregister(locked);
          }};
}

}  // namespace orch::kernels::cuda
