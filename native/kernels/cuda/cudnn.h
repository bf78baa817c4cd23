// cuDNN's backend API: descriptors of tensors and operations, and execution plans of operation graphs. The
// library is opened at run time. Functions throw Error(ERR_CUDA), except where a comment says otherwise.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#if __has_include(<cudnn_graph.h>)
#include <cudnn.h>
#if CUDNN_VERSION >= 91700
#define ORCH_HAS_CUDNN
#endif
#endif

namespace orch::kernels::cuda {

/// "cuDNN 9.24.0", or why it is not available. Throws nothing.
std::string cudnn_version();

#ifdef ORCH_HAS_CUDNN
namespace cudnn {

class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t type);
  Descriptor(Descriptor&& o) noexcept : descriptor_(std::exchange(o.descriptor_, nullptr)) {}
  ~Descriptor();
  cudnnBackendDescriptor_t get() const { return descriptor_; }

  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
           const void* values);
  void set(cudnnBackendAttributeName_t name, const Descriptor& d) {
    set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &d.descriptor_);
  }
  void set(cudnnBackendAttributeName_t name, int64_t value) { set(name, CUDNN_TYPE_INT64, 1, &value); }
  void finalize(const char* what);

 private:
  cudnnBackendDescriptor_t descriptor_ = nullptr;
};

using Sizes = std::array<int64_t, 4>;
/// The strides of a tensor whose last dimension changes fastest.
Sizes packed(const Sizes& dims);

/// The operations of a graph, in order, and its tensors. All arithmetic is in fp32.
class Graph {
 public:
  using Tensor = const Descriptor*;
  /// A tensor in device memory or, where `by_value`, a float in host memory. execute() takes its address by
  /// this id, which is below kFirstVirtual.
  Tensor tensor(int64_t id, cudnnDataType_t type, const Sizes& dims, const Sizes& strides,
                bool by_value = false);
  /// A tensor between two operations, which need not exist in memory.
  Tensor between(const Sizes& dims, const Sizes& strides, cudnnDataType_t type = CUDNN_DATA_FLOAT);

  /// y = mode(x, b), or mode(x) without b.
  void pointwise(cudnnPointwiseMode_t mode, Tensor x, Tensor b, Tensor y);
  void matmul(Tensor a, Tensor b, Tensor c);
  /// y = the sum of x over the dimensions in which y has size 1.
  void sum(Tensor x, Tensor y);
  /// y = x, seen with y's dimensions, strides and type.
  void view(Tensor x, Tensor y);
  /// Any other operation on the library's tensors.
  void operation(cudnnBackendDescriptorType_t type,
                 const std::vector<std::pair<cudnnBackendAttributeName_t, Tensor>>& tensors);

  const std::vector<Descriptor>& operations() const { return operations_; }

 private:
  static constexpr int64_t kFirstVirtual = 1 << 16;
  std::vector<std::unique_ptr<Descriptor>> tensors_;
  std::vector<Descriptor> operations_;
};

struct Plan {
  Descriptor plan;
  int64_t bytes;  ///< of workspace
};

/// The first plan in the order of the library's heuristics that is supported and, unless `any`,
/// deterministic. Throws if there is none, saying why.
Plan plan_of(const Graph& graph, bool any);

/// Enqueues the plan's work. `pointers` are those of the tensors with these ids.
void execute(const Plan& plan, const std::vector<int64_t>& ids, const std::vector<const void*>& pointers,
             void* workspace);

}  // namespace cudnn
#endif

}  // namespace orch::kernels::cuda
