// cuDNN's single-node attention operations (forward since 9.13, backward since 9.17), through its backend
// API. The library is opened at run time.
#include "attention_cudnn.h"

#include <dlfcn.h>

#include <array>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "../../core/error.h"
#include "matmul.h"
#include "queue.h"

#if __has_include(<cudnn_graph.h>)
#include <cudnn.h>
#if CUDNN_VERSION >= 91700
#define ORCH_HAS_CUDNN
#endif
#endif

namespace orch::kernels::cuda {

#ifndef ORCH_HAS_CUDNN
const LibraryAttention* library_attention() { return nullptr; }
#else
namespace {

/// The functions of the library that are used.
#define ORCH_CUDNN(EACH)         \
  EACH(Create)                   \
  EACH(SetStream)                \
  EACH(GetVersion)               \
  EACH(GetErrorString)           \
  EACH(BackendCreateDescriptor)  \
  EACH(BackendDestroyDescriptor) \
  EACH(BackendSetAttribute) EACH(BackendGetAttribute) EACH(BackendFinalize) EACH(BackendExecute)
struct Library {
#define ORCH_MEMBER(name) decltype(&cudnn##name) name;
  ORCH_CUDNN(ORCH_MEMBER)
  cudnnHandle_t handle = nullptr;
};

/// Null if the library cannot be opened or is too old to have the backward operation.
const Library* library() {
  static const std::unique_ptr<Library> opened = []() -> std::unique_ptr<Library> {
    void* so = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
    if (!so) return nullptr;
    auto l = std::make_unique<Library>();
#define ORCH_FIND(name)                                                         \
  l->name = reinterpret_cast<decltype(&cudnn##name)>(dlsym(so, "cudnn" #name)); \
  if (!l->name) return nullptr;
    ORCH_CUDNN(ORCH_FIND)
    if (l->GetVersion() < 91700 || l->Create(&l->handle) != CUDNN_STATUS_SUCCESS ||
        l->SetStream(l->handle, compute_stream()) != CUDNN_STATUS_SUCCESS)
      return nullptr;
    return l;
  }();
  return opened.get();
}

void require(cudnnStatus_t status, const char* what) {
  if (status != CUDNN_STATUS_SUCCESS)
    throw Error("ERR_CUDA", std::string("cuDNN, ") + what + ": " + library()->GetErrorString(status));
}

class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t type) {
    require(library()->BackendCreateDescriptor(type, &descriptor_), "create");
  }
  Descriptor(Descriptor&& o) noexcept : descriptor_(std::exchange(o.descriptor_, nullptr)) {}
  Descriptor(const Descriptor&) = delete;
  ~Descriptor() {
    if (descriptor_) library()->BackendDestroyDescriptor(descriptor_);
  }
  cudnnBackendDescriptor_t get() const { return descriptor_; }

  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
           const void* values) {
    require(library()->BackendSetAttribute(descriptor_, name, type, count, values), "set");
  }
  void set(cudnnBackendAttributeName_t name, const Descriptor& d) {
    set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &d.descriptor_);
  }
  void set(cudnnBackendAttributeName_t name, int64_t value) { set(name, CUDNN_TYPE_INT64, 1, &value); }
  cudnnStatus_t try_finalize() { return library()->BackendFinalize(descriptor_); }
  void finalize(const char* what) { require(try_finalize(), what); }

 private:
  cudnnBackendDescriptor_t descriptor_ = nullptr;
};

enum Id : int64_t { kQ = 1, kK, kV, kO, kStats, kDO, kDQ, kDK, kDV, kScaleId };

Descriptor tensor(Id id, cudnnDataType_t type, const std::array<int64_t, 4>& dims,
                  const std::array<int64_t, 4>& strides, bool by_value = false) {
  Descriptor d(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  d.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
  d.set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims.data());
  d.set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides.data());
  d.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, id);
  d.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, by_value ? 4 : 16);
  d.set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &by_value);
  d.finalize("tensor");
  return d;
}

struct Plan {
  std::unique_ptr<Descriptor> plan;
  int64_t bytes = -1;
};

/// The first configuration of the heuristic that is available; unless `any`, it must be deterministic.
Plan plan_of(const Descriptor& operation, bool any) {
  const Library& l = *library();
  Descriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &l.handle);
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, operation);
  graph.finalize("operation graph");
  for (cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
    Descriptor heuristic(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    heuristic.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    heuristic.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (heuristic.try_finalize() != CUDNN_STATUS_SUCCESS) continue;
    constexpr int64_t kMost = 16;
    std::vector<Descriptor> configurations;
    std::vector<cudnnBackendDescriptor_t> raw;
    for (int64_t i = 0; i < kMost; ++i) {
      configurations.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
      raw.push_back(configurations.back().get());
    }
    int64_t found = 0;
    if (l.BackendGetAttribute(heuristic.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                              kMost, &found, raw.data()) != CUDNN_STATUS_SUCCESS)
      continue;
    for (int64_t i = 0; i < found && i < kMost; ++i) {
      Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
      cudnnBackendDescriptor_t e = engine.get();
      int64_t count = 0;
      std::array<cudnnBackendNumericalNote_t, CUDNN_NUMERICAL_NOTE_TYPE_COUNT> notes;
      bool repeats = l.BackendGetAttribute(raw[i], CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                           1, &count, &e) == CUDNN_STATUS_SUCCESS &&
                     l.BackendGetAttribute(e, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                           notes.size(), &count, notes.data()) == CUDNN_STATUS_SUCCESS;
      for (int64_t n = 0; repeats && n < count; ++n)
        repeats = notes[n] != CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
      if (!repeats && !any) continue;
      auto plan = std::make_unique<Descriptor>(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
      plan->set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &l.handle);
      plan->set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configurations[i]);
      if (plan->try_finalize() != CUDNN_STATUS_SUCCESS) continue;
      int64_t bytes = 0;
      require(l.BackendGetAttribute(plan->get(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64,
                                    1, &count, &bytes),
              "workspace size");
      return {std::move(plan), bytes};
    }
  }
  return {};
}

/// Tensor descriptors of a shape.
struct Tensors {
  AttentionDims d;
  int64_t queries() const { return d.tokens - d.first_query; }
  /// q, k, v and their gradients: [samples, heads, tokens, 64]
  Descriptor heads(Id id, int64_t rows) const {
    return tensor(id, CUDNN_DATA_BFLOAT16, {d.samples, d.heads, rows, kHeadDim},
                  {d.heads * d.tokens * kHeadDim, d.tokens * kHeadDim, kHeadDim, 1});
  }
  /// [samples, queries, heads * 64]
  Descriptor joint(Id id) const {
    return tensor(id, CUDNN_DATA_BFLOAT16, {d.samples, d.heads, queries(), kHeadDim},
                  {queries() * d.heads * kHeadDim, kHeadDim, d.heads * kHeadDim, 1});
  }
  Descriptor stats() const {
    return tensor(kStats, CUDNN_DATA_FLOAT, {d.samples, d.heads, queries(), 1},
                  {d.heads * d.tokens, d.tokens, 1, 1});
  }
  static Descriptor scale() { return tensor(kScaleId, CUDNN_DATA_FLOAT, {1, 1, 1, 1}, {1, 1, 1, 1}, true); }
};

bool any_plan() {
  static const bool any = std::string(std::getenv("ORCHESTRATOR_CUDA_ATTENTION")) == "cudnn-any";
  return any;
}

using Key = std::array<int64_t, 4>;
Key key_of(const AttentionDims& d) { return {d.samples, d.heads, d.tokens, d.first_query}; }

/// The plan of an operation on this shape, which describe(operation, tensors) completes; made once per shape.
template <class Describe>
const Plan& plan_for(const AttentionDims& d, cudnnBackendDescriptorType_t type, Describe describe) {
  static std::map<Key, Plan> plans;
  auto [it, fresh] = plans.try_emplace(key_of(d));
  if (!fresh) return it->second;
  Descriptor op(type);
  describe(op, Tensors{d});
  if (op.try_finalize() == CUDNN_STATUS_SUCCESS) it->second = plan_of(op, any_plan());
  return it->second;
}

const Plan& forward_plan(const AttentionDims& d) {
  return plan_for(d, CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR, [](Descriptor& op, const Tensors& t) {
    op.set(CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, t.heads(kQ, t.queries()));
    op.set(CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC, t.heads(kK, t.d.tokens));
    op.set(CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC, t.heads(kV, t.d.tokens));
    op.set(CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC, t.joint(kO));
    op.set(CUDNN_ATTR_OPERATION_SDPA_FWD_STATSDESC, t.stats());
    op.set(CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC, Tensors::scale());
  });
}

const Plan& backward_plan(const AttentionDims& d) {
  return plan_for(d, CUDNN_BACKEND_OPERATION_SDPA_BWD_DESCRIPTOR, [](Descriptor& op, const Tensors& t) {
    op.set(CUDNN_ATTR_OPERATION_SDPA_BWD_QDESC, t.heads(kQ, t.queries()));
    op.set(CUDNN_ATTR_OPERATION_SDPA_BWD_KDESC, t.heads(kK, t.d.tokens));
    op.set(CUDNN_ATTR_OPERATION_SDPA_BWD_VDESC, t.heads(kV, t.d.tokens));
    op.set(CUDNN_ATTR_OPERATION_SDPA_BWD_ODESC, t.joint(kO));
    op.set(CUDNN_ATTR_OPERATION_SDPA_BWD_STATSDESC, t.stats());
    op.set(CUDNN_ATTR_OPERATION_SDPA_BWD_SCALEDESC, Tensors::scale());
    op.set(CUDNN_ATTR_OPERATION_SDPA_BWD_DODDESC, t.joint(kDO));
    op.set(CUDNN_ATTR_OPERATION_SDPA_BWD_DQDESC, t.heads(kDQ, t.queries()));
    op.set(CUDNN_ATTR_OPERATION_SDPA_BWD_DKDESC, t.heads(kDK, t.d.tokens));
    op.set(CUDNN_ATTR_OPERATION_SDPA_BWD_DVDESC, t.heads(kDV, t.d.tokens));
  });
}

int64_t forward_bytes(const AttentionDims& d) { return forward_plan(d).bytes; }
int64_t backward_bytes(const AttentionDims& d) { return backward_plan(d).bytes; }

void execute(const Plan& plan, const std::vector<int64_t>& ids, std::vector<const void*> pointers,
             void* workspace) {
  Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  const int64_t n = static_cast<int64_t>(ids.size());
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, ids.data());
  pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n, pointers.data());
  pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
  pack.finalize("variant pack");
  require(library()->BackendExecute(library()->handle, plan.plan->get(), pack.get()), "execute");
}

constexpr float kLogitScale = 0.125f;

void forward(bf16* out, float* lse, const bf16* q, const bf16* k, const bf16* v, const AttentionDims& d,
             void* workspace) {
  execute(forward_plan(d), {kQ, kK, kV, kO, kStats, kScaleId},
          {q + d.first_query * kHeadDim, k, v, out, lse + d.first_query, &kLogitScale}, workspace);
}

void backward(bf16* dq, bf16* dk, bf16* dv, const bf16* dout, const bf16* out, const float* lse,
              const bf16* q, const bf16* k, const bf16* v, const AttentionDims& d, void* workspace) {
  execute(backward_plan(d), {kQ, kK, kV, kO, kStats, kDO, kDQ, kDK, kDV, kScaleId},
          {q + d.first_query * kHeadDim, k, v, out, lse + d.first_query, dout, dq + d.first_query * kHeadDim,
           dk, dv, &kLogitScale},
          workspace);
}

}  // namespace

const LibraryAttention* library_attention() {
  static const LibraryAttention functions{forward_bytes, backward_bytes, forward, backward};
  static const bool wanted = [] {
    const char* given = std::getenv("ORCHESTRATOR_CUDA_ATTENTION");
    return given && std::string(given).rfind("cudnn", 0) == 0;
  }();
  if (!wanted || plans_only()) return nullptr;
  if (!library())
    throw Error("ERR_CUDA",
                "ORCHESTRATOR_CUDA_ATTENTION asks for cuDNN 9.17 or newer, which cannot be opened");
  return &functions;
}
#endif

}  // namespace orch::kernels::cuda
