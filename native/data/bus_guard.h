// Reading a mapped file that was truncated, or whose disk fails, raises SIGBUS, which would end the process.
// This handler marks the mapping as failed instead and maps zeros in its place; readers must check the mark
// after reading.
#pragma once
#include <cstddef>

namespace orch {

struct GuardedRange;

/// Watches the bytes [address, address + size) of a mapping. The first call installs the process's SIGBUS
/// handler; faults outside watched ranges go to the previous handler.
GuardedRange* guard(const void* address, size_t size);

/// Stops watching. Must be called before the mapping is removed.
void unguard(GuardedRange* range);

/// Whether a read of the range has failed. After a failure the rest of the mapping reads as zeros.
bool failed(const GuardedRange* range);

/// Whether a read of any range has failed since the process started. It is a single load, for the usual case
/// in which none has.
bool any_failed();

}  // namespace orch
