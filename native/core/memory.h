// Aligned, counted memory. Every large allocation of the core uses it, so that memory_use() is complete.
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>

namespace orch {

struct MemoryUse {
  int64_t current, peak;
};
/// Bytes that this process holds in Buffers: now, and at most so far.
MemoryUse memory_use();

/// Memory that is 64-byte aligned, zeroed (fresh pages from the system) and move-only. Throws
/// Error(ERR_OUT_OF_MEMORY).
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t bytes);
  /// Takes ownership of a mapping. `counted`: whether this process counts the memory as its own.
  Buffer(void* mapping, size_t bytes, bool counted);
  Buffer(Buffer&& o) noexcept
      : data_(std::exchange(o.data_, nullptr)), bytes_(std::exchange(o.bytes_, 0)), counted_(o.counted_) {}
  Buffer& operator=(Buffer&& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(bytes_, o.bytes_);
    std::swap(counted_, o.counted_);
    return *this;
  }
  ~Buffer();

  void* data() const { return data_; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
  bool counted_ = true;
};

}  // namespace orch
