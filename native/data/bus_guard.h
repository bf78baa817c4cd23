// Reading a mapped file that somebody truncates, or whose disk fails, raises SIGBUS, which ends the process.
// Here it becomes a mark on the mapping, and the bytes read are zeros: whoever reads checks the mark
// afterwards.
#pragma once
#include <cstddef>

namespace orch {

struct GuardedRange;

/// Watches the bytes [address, address + size) of a mapping. Installs the process's handler of SIGBUS at the
/// first call; faults elsewhere go to the handler before it.
GuardedRange* guard(const void* address, size_t size);

/// Ends the watch. To be called before the mapping is removed.
void unguard(GuardedRange* range);

/// Whether a read of the range failed. From then on the rest of the mapping reads as zeros.
bool failed(const GuardedRange* range);

/// Whether a read of any range failed since the process began: one load, for the path where none did.
bool any_failed();

}  // namespace orch
