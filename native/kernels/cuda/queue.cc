// Launches, workspace and small copies on the stream of the CUDA device.
#include "queue.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "../../core/error.h"
#include "queue_state.h"

namespace orch::kernels::cuda {

Context context;

char* planned_address(size_t bytes) {
  static char* next = reinterpret_cast<char*>(uintptr_t{1} << 40);
  char* p = next;
  next += rounded(bytes);
  return p;
}

namespace {

/// Nothing can be allocated during a capture.
void refuse_capture() {
  if (context.recording) throw Error("ERR_INTERNAL", "Work must run once before it can be captured");
}

}  // namespace

cudaStream_t compute_stream() { return context.compute_stream; }
OnStream::OnStream(cudaStream_t stream) : before_(std::exchange(context.compute_stream, stream)) {}
OnStream::~OnStream() { context.compute_stream = before_; }
bool plans_only() { return context.plan_only; }
bool has_warpgroups() { return context.warpgroups; }

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw Error(status == cudaErrorMemoryAllocation ? "ERR_OUT_OF_MEMORY" : "ERR_CUDA", what, ": ",
              cudaGetErrorString(status), " (", cudaGetErrorName(status), ")");
}

void synchronize() {
  if (!context.plan_only) check(cudaStreamSynchronize(context.compute_stream), "cudaStreamSynchronize");
}

void* workspace_bytes(size_t bytes) {
  context.launches->workspace = std::max(context.launches->workspace, bytes);
  if (context.recording) context.workspace_recorded = true;
  if (bytes <= context.workspace_bytes) return context.workspace;
  if (context.plan_only) {
    context.workspace = planned_address(bytes);
  } else {
    refuse_capture();
    // Recordings hold the address of the previous workspace, and run again.
    if (context.workspace && !context.workspace_recorded) {
      check(cudaStreamSynchronize(context.compute_stream), "cudaStreamSynchronize");
      check(cudaFree(context.workspace), "cudaFree");
      *context.held -= context.workspace_bytes;
    }
    context.workspace = nullptr;
    context.workspace_bytes = 0;
    context.workspace_recorded = false;
    check(cudaMalloc(&context.workspace, rounded(bytes)), "cudaMalloc of the workspace");
    context.launches->allocations += 1;
  }
  context.workspace_bytes = rounded(bytes);
  *context.held += rounded(bytes);
  return context.workspace;
}

std::shared_ptr<void> device_memory(size_t bytes) {
  refuse_capture();
  void* p = nullptr;
  check(cudaMalloc(&p, rounded(bytes)), "cudaMalloc");
  count_held(rounded(bytes));
  return {p, [bytes](void* memory) {
            cudaFree(memory);
            *context.held -= rounded(bytes);
          }};
}

void count_held(size_t bytes) { *context.held += bytes; }

// A copy to pageable memory waits within the driver for the work before it, and other threads cannot enqueue
// anything meanwhile, such as the copies of a snapshot. So what steps need on the host, a few numbers, goes
// through page-locked memory.
void download(void* to, const void* from, size_t bytes) {
  constexpr size_t kFew = 64 << 10;
  if (context.plan_only) return;
  if (bytes <= kFew && !context.few) check(cudaMallocHost(&context.few, kFew), "cudaMallocHost");
  void* const target = bytes <= kFew ? context.few : to;
  check(cudaMemcpyAsync(target, from, bytes, cudaMemcpyDeviceToHost, context.compute_stream),
        "cudaMemcpyAsync from the device");
  synchronize();
  if (target != to) std::memcpy(to, target, bytes);
}

bool may_launch(dim3 grid, dim3 block, size_t shared) {
  return count_launch(*context.launches, {grid.x, grid.y, grid.z}, block.x * block.y * block.z, shared,
                      context.most_shared) &&
         !context.plan_only;
}

void raise_shared(const void* kernel, size_t shared) {
  static std::map<const void*, size_t> raised;
  size_t& most = raised[kernel];
  if (shared <= most) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
        "cudaFuncSetAttribute");
  most = shared;
}

bool can_start_early(const void* kernel) {
  if (context.plan_only) return false;
  static std::map<const void*, bool> known;
  const auto [it, fresh] = known.try_emplace(kernel, false);
  if (fresh) {
    cudaFuncAttributes a;  // of the code that was chosen for this GPU: 90 is compute capability 9.0
    check(cudaFuncGetAttributes(&a, kernel), "cudaFuncGetAttributes");
    it->second = a.ptxVersion >= 90 && a.binaryVersion >= 90;
  }
  return it->second;
}

}  // namespace orch::kernels::cuda
