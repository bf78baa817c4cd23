// Owned memory. Every large allocation of the core uses it, so that memory_use() is complete.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace orch {

struct MemoryUse {
  int64_t current, peak;
};
/// Bytes that this process holds in Buffers: now, and at most so far.
MemoryUse memory_use();

/// Memory of this process, of a device, or shared; move-only.
class Buffer {
 public:
  Buffer() = default;
  /// Memory of this process, 64-byte aligned and zeroed (fresh pages from the system). Throws
  /// Error(ERR_OUT_OF_MEMORY).
  explicit Buffer(size_t bytes);
  /// Memory that the last owner's deleter frees.
  Buffer(std::shared_ptr<void> memory, size_t bytes) : memory_(std::move(memory)), bytes_(bytes) {}
  /// Takes ownership of a mapping. `counted`: whether this process counts the memory as its own.
  Buffer(void* mapping, size_t bytes, bool counted);
  Buffer(Buffer&&) noexcept = default;
  Buffer& operator=(Buffer&&) noexcept = default;

  void* data() const { return memory_.get(); }
  template <class T>
  T* as() const {
    return static_cast<T*>(data());
  }
  size_t bytes() const { return memory_ ? bytes_ : 0; }
  explicit operator bool() const { return memory_ != nullptr; }

 private:
  std::shared_ptr<void> memory_;
  size_t bytes_ = 0;
};

}  // namespace orch
