#include "memory.h"

#include <sys/mman.h>

#include <atomic>

#include "error.h"

namespace orch {
namespace {
std::atomic<int64_t> g_current{0}, g_peak{0};

void count(size_t bytes) {
  const int64_t now = g_current += static_cast<int64_t>(bytes);
  int64_t peak = g_peak.load();
  while (now > peak && !g_peak.compare_exchange_weak(peak, now)) {
  }
}

}  // namespace

MemoryUse memory_use() { return {g_current.load(), g_peak.load()}; }

Buffer::Buffer(size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  data_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data_ == MAP_FAILED) {
    data_ = nullptr;
    throw Error("ERR_OUT_OF_MEMORY", "Cannot allocate ", bytes >> 20, " MiB");
  }
  madvise(data_, bytes, MADV_HUGEPAGE);  // fewer TLB misses in the optimizer's and the kernels' long passes
  count(bytes);
}

Buffer::Buffer(void* mapping, size_t bytes, bool counted) : data_(mapping), bytes_(bytes), counted_(counted) {
  if (counted) count(bytes);
}

Buffer::~Buffer() {
  if (data_ == nullptr) return;
  munmap(data_, bytes_);
  if (counted_) g_current -= static_cast<int64_t>(bytes_);
}

}  // namespace orch
