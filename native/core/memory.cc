#include "memory.h"

#include <sys/mman.h>

#include <atomic>

#include "error.h"

namespace orch {
namespace {
std::atomic<int64_t> g_current{0}, g_peak{0};

}  // namespace

MemoryUse memory_use() { return {g_current.load(), g_peak.load()}; }

Buffer::Buffer(size_t bytes) {
  if (bytes == 0) return;
  void* mapping = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) throw Error("ERR_OUT_OF_MEMORY", "Cannot allocate ", bytes >> 20, " MiB");
  madvise(mapping, bytes, MADV_HUGEPAGE);  // fewer TLB misses in the optimizer's and the kernels' long passes
  *this = Buffer(mapping, bytes, true);
}

Buffer::Buffer(void* mapping, size_t bytes, bool counted) : bytes_(bytes) {
  const int64_t own = counted ? static_cast<int64_t>(bytes) : 0, now = g_current += own;
  int64_t peak = g_peak.load();
  while (now > peak && !g_peak.compare_exchange_weak(peak, now)) {
  }
  memory_ = {mapping, [=](void* memory) {
               munmap(memory, bytes);
               g_current -= own;
             }};
}

}  // namespace orch
