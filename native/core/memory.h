// Aligned, counted memory. Everything large that the core owns comes from here, so that `memory()` tells the
// truth.
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>

namespace orch {

struct MemoryUse {
  int64_t current, peak;
};
/// Bytes held in Buffers by this process now, and the most there ever were.
MemoryUse memory_use();

/// 64-byte aligned, zeroed (fresh pages of the system), move-only. Throws Error(ERR_OUT_OF_MEMORY).
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t bytes);
  /// Takes over a mapping. `counted`: whether this process is the one that answers for its memory.
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
