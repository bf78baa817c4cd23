// Locks of whole files that the kernel holds (open file description locks): one ends when the file is closed,
// however the process ends, and is seen from every namespace that sees the file.
#pragma once

namespace orch {

/// Takes the lock of a file that is open for writing. Returns false if another open file has it. Throws
/// Error(ERR_SYSTEM) where the file system has none.
bool lock_file(int descriptor);
/// Whether another open file has the lock. Does not take it.
bool is_locked(int descriptor);

}  // namespace orch
