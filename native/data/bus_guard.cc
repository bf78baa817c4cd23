#include "bus_guard.h"

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdint>
#include <mutex>

namespace orch {

/// Never freed, because the handler may traverse the list at any time; reused for later mappings.
struct GuardedRange {
  std::atomic<uintptr_t> begin{0}, end{0};  ///< both 0: unused
  std::atomic<bool> failed{false};
  GuardedRange* next = nullptr;
};

namespace {

std::atomic<GuardedRange*> ranges{nullptr};
std::atomic<bool> any{false};
struct sigaction before;
uintptr_t page_size;
std::mutex changes;

/// Uses only async-signal-safe operations: loads, stores, and mmap, which on Linux is a plain system call.
void on_bus_error(int, siginfo_t* info, void*) {
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  for (GuardedRange* range = ranges.load(); range; range = range->next) {
    const uintptr_t end = range->end.load();
    if (address < range->begin.load() || address >= end) continue;
    // The mark is set first: another thread that reads the zeros without faulting must find it.
    range->failed.store(true);
    any.store(true);
    const uintptr_t page = address & ~(page_size - 1);
    void* zeros = mmap(reinterpret_cast<void*>(page), end - page, PROT_READ,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (zeros == MAP_FAILED) break;
    return;
  }
  // Not a watched range: restore the previous handler; the instruction runs again and reaches it.
  sigaction(SIGBUS, &before, nullptr);
}

void install() {
  static const bool once = [] {
    page_size = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    struct sigaction action {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, &before);
    return true;
  }();
  (void)once;
}

}  // namespace

GuardedRange* guard(const void* address, size_t size) {
  install();
  const std::lock_guard lock(changes);
  GuardedRange* range = ranges.load();
  while (range && range->end.load() != 0) range = range->next;
  if (!range) {
    range = new GuardedRange;
    range->next = ranges.load();
    ranges.store(range);
  }
  range->failed.store(false);
  const auto begin = reinterpret_cast<uintptr_t>(address);
  range->begin.store(begin);
  range->end.store(begin + size);
  return range;
}

void unguard(GuardedRange* range) {
  const std::lock_guard lock(changes);
  range->end.store(0);
  range->begin.store(0);
}

bool failed(const GuardedRange* range) { return range->failed.load(); }

bool any_failed() { return any.load(std::memory_order_relaxed); }

}  // namespace orch
