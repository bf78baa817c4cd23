// A device on which an engine computes: a GPU, with its own memory and one stream of work, or the CPU.
// Kernels, matmuls and copies are enqueued on the stream and run in that order; a function waits only if its
// comment says so. Calls must come from one thread at a time. The default functions are those of a device
// that has no streams and does its work at once.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../core/memory.h"
#include "graph.h"
#include "transport.h"

namespace orch::graph {

class Device : public Backend {
 public:
  struct Description {
    std::string name;       ///< "NVIDIA H200"
    std::string libraries;  ///< "CUDA 13.0, cuBLASLt 13.1.1, NCCL 2.30.7"
    size_t memory_bytes;
    std::string problem;  ///< why the device cannot be used, or empty
  };
  virtual Description describe() const = 0;
  /// Whether this is the CPU: its memory is the host's, work is done when a function returns, and several
  /// threads may call functions at a time.
  virtual bool is_cpu() const { return false; }

  /// Device memory, 256-byte aligned, which any thread may free. On the CPU it is zeroed.
  /// Throws Error(ERR_OUT_OF_MEMORY).
  virtual Buffer allocate(size_t bytes) = 0;
  /// Page-locked (pinned) host memory, which copies access directly. Throws Error(ERR_OUT_OF_MEMORY).
  virtual Buffer allocate_host(size_t bytes) { return allocate(bytes); }
  /// Bytes of the device that this process holds, apart from host memory: allocations and workspaces. May be
  /// called from any thread.
  virtual size_t held_bytes() const { return 0; }

  /// Enqueues a copy from the host (cudaMemcpyAsync). `from` must not change until the stream has executed
  /// it.
  virtual void upload(void* to, const void* from, size_t bytes) { copy(to, from, bytes); }
  /// Copies to the host, after the work enqueued before; blocks until the copy is complete.
  virtual void download(void* to, const void* from, size_t bytes) { copy(to, from, bytes); }
  /// Enqueue a copy within the device, or a fill with one byte (cudaMemsetAsync).
  virtual void copy(void* to, const void* from, size_t bytes) = 0;
  virtual void fill(void* to, int byte, size_t bytes) = 0;

  /// Prefetch on a second stream, the copy stream. None of these three functions blocks the host.
  ///
  /// Stream wait (cudaStreamWaitEvent): copies enqueued from now on start after the work that is on the
  /// compute stream now.
  virtual void make_copy_stream_wait() {}
  /// Enqueues a copy from pinned host memory on the copy stream.
  virtual void upload_async(void* to, const void* from, size_t bytes) { copy(to, from, bytes); }
  /// Stream wait in the other direction: work enqueued on the compute stream from now on starts after the
  /// copies enqueued until now.
  virtual void wait_for_copy_stream() {}

  /// Copies to the host beside computing, on a third stream, the snapshot stream. The two functions that name
  /// a download may be called by another thread than the others, one at a time.
  ///
  /// Stream wait: downloads enqueued from now on start after the work that is on the compute stream now.
  virtual void make_snapshot_stream_wait() {}
  /// Enqueues a copy to the host on the snapshot stream. Blocks until it is complete if the host's memory is
  /// not page-locked.
  virtual void download_async(void* to, const void* from, size_t bytes) { copy(to, from, bytes); }
  /// Blocks until the first download_async() that was not awaited yet is complete. Its errors are thrown
  /// here.
  virtual void await_download() {}
  /// Stream wait in the other direction: work enqueued on the compute stream from now on starts after the
  /// downloads enqueued until now.
  virtual void wait_for_snapshot_stream() {}
  /// Page-locks memory that a Buffer has, from a page boundary on (cudaHostRegister), until the last owner of
  /// the result frees it, which has to be before the memory is freed. May be called as download_async() may.
  /// Throws Error(ERR_CUDA) if that is impossible, saying why.
  virtual std::shared_ptr<void> page_lock(void*, size_t) { return nullptr; }

  /// Blocks until the stream is idle (cudaStreamSynchronize). Errors of enqueued work are thrown here.
  virtual void synchronize() {}
  /// record_event() marks the current end of the stream (cudaEventRecord); await_event() blocks the host
  /// until the stream has reached that point (cudaEventSynchronize).
  virtual uint64_t record_event() { return 0; }
  virtual void await_event(uint64_t) {}

  /// Captures the work that `work` enqueues, without running it (stream capture), and returns a function that
  /// enqueues it again at the cost of one launch (a CUDA graph). All of it must have run once before, because
  /// no memory can be allocated during capture.
  virtual std::function<void()> record(const std::function<void()>& work) = 0;
  /// Seconds that the stream takes for `work`, by the device's clock, or the calling thread, by its CPU time;
  /// blocks.
  virtual double time(const std::function<void()>& work) = 0;

  /// What computes the attention of this shape in bf16, forward or backward: a library, or "own kernels" and
  /// why no library serves. Blocks: plans are made and checked.
  virtual std::string attention_by(const kernels::AttentionDims&, bool /*backward*/) { return "own kernels"; }
  /// Seconds of one product with each algorithm that the library proposes, its best guess first; empty on the
  /// CPU, which has one.
  virtual std::vector<double> matmul_times(const MatmulSpec&) { return {}; }
  /// Launches since the last call (a recording counts as one), the most blocks and bytes that one of them
  /// asked for, and the number of replays and allocations.
  struct Launches {
    int64_t count, most_blocks;
    size_t most_shared, workspace;
    int64_t replays, allocations;
  };
  virtual Launches take_launches() { return {}; }

  /// Rendezvous: a printable string that every rank must know of the others before connect(),
  /// "GPU-UUID/library/...". The UUID must differ between ranks, the library must be the same. With `leads`
  /// it also contains the address at which the other ranks find the leader (NCCL's unique id), which is valid
  /// for one connect(). Throws Error(ERR_CUDA) if this device cannot be connected to others, saying why.
  virtual std::string rendezvous(bool leads) = 0;
  /// Joins as `rank` of `ranks`, given the rendezvous string of rank 0. Does not wait for the other ranks:
  /// the transport's calls do.
  virtual std::unique_ptr<Transport> connect(const std::string& leader, int rank, int ranks) = 0;
};

/// This processor: kernels of the CPU, in host memory.
Device& cpu_device();

/// Work that is the same each time: the first call runs it directly, the second one captures it, and from
/// then on the recording is replayed. A device may keep the work itself as its recording, so what the work of
/// the second call refers to has to live as long as this.
class Repeated {
 public:
  void operator()(Device& device, const std::function<void()>& work) {
    (*this)(
        device, 1, [work](size_t) { work(); }, [](size_t) {});
  }
  /// The same for work in parts, each with a recording of its own. after(part) is called when the part has
  /// been enqueued. In the first two calls, which may wait for the whole device, all parts are enqueued
  /// before: what `after` enqueues may itself wait for other processes.
  void operator()(Device& device, size_t parts, const std::function<void(size_t)>& work,
                  const std::function<void(size_t)>& after) {
    const bool warm = replays_.size() == parts;
    while (ran_ && replays_.size() < parts)
      replays_.push_back(device.record([work, part = replays_.size()] { work(part); }));
    for (size_t part = 0; part < parts; ++part) {
      ran_ ? replays_[part]() : work(part);
      if (warm) after(part);
    }
    ran_ = true;  // not if it failed: what never ran cannot be captured
    for (size_t part = 0; !warm && part < parts; ++part) after(part);
  }

 private:
  bool ran_ = false;
  std::vector<std::function<void()>> replays_;  // by part
};

}  // namespace orch::graph
