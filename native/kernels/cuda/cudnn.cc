#include "cudnn.h"

#include <dlfcn.h>

#include "../../core/error.h"
#include "queue.h"

namespace orch::kernels::cuda {

#ifndef ORCH_HAS_CUDNN
std::string cudnn_version() {
  return "no cuDNN (cudnn.h of 9.17 or newer was not found when the CUDA library was built)";
}
#else
namespace cudnn {
namespace {

constexpr size_t kOldest = 91700;

std::string version_text(size_t v) {
  return std::to_string(v / 10000) + "." + std::to_string(v / 100 % 100) + "." + std::to_string(v % 100);
}

/// The functions of the library that are used.
#define ORCH_CUDNN(EACH)         \
  EACH(Create)                   \
  EACH(SetStream)                \
  EACH(GetVersion)               \
  EACH(GetErrorString)           \
  EACH(GetLastErrorString)       \
  EACH(BackendCreateDescriptor)  \
  EACH(BackendDestroyDescriptor) \
  EACH(BackendSetAttribute) EACH(BackendGetAttribute) EACH(BackendFinalize) EACH(BackendExecute)
struct Library {
#define ORCH_MEMBER(name) decltype(&cudnn##name) name;
  ORCH_CUDNN(ORCH_MEMBER)
  std::string missing;  ///< why the library cannot be used; empty if it can
};

Library open() {
  Library l{};
  void* so = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
  if (!so) {
    l.missing = dlerror();
    return l;
  }
#define ORCH_FIND(name)                                                        \
  l.name = reinterpret_cast<decltype(&cudnn##name)>(dlsym(so, "cudnn" #name)); \
  if (!l.name) l.missing = "cudnn" #name " is missing in libcudnn.so.9";
  ORCH_CUDNN(ORCH_FIND)
  if (l.missing.empty() && l.GetVersion() < kOldest)
    l.missing =
        "libcudnn.so.9 is " + version_text(l.GetVersion()) + "; " + version_text(kOldest) + " is needed";
  return l;
}

// This library and what is made with it live until the process ends: cuDNN's own libraries are unloaded
// before the destructors of statics run.
const Library& opened() {
  static const Library& library = *new Library(open());
  return library;
}
const Library& library() {
  if (!opened().missing.empty()) throw Error("ERR_CUDA", "no cuDNN (", opened().missing, ")");
  return opened();
}

void require(cudnnStatus_t status, const char* what) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  char details[256] = "";
  library().GetLastErrorString(details, sizeof details);
  throw Error("ERR_CUDA", "cuDNN, ", what, ": ", library().GetErrorString(status), *details ? ", " : "",
              details);
}

/// The cuDNN handle of the GPU that this process uses; its work goes to the compute stream.
cudnnHandle_t handle() {
  static const cudnnHandle_t made = [] {
    cudnnHandle_t h = nullptr;
    require(library().Create(&h), "cudnnCreate");
    require(library().SetStream(h, compute_stream()), "cudnnSetStream");
    return h;
  }();
  return made;
}

}  // namespace

Descriptor::Descriptor(cudnnBackendDescriptorType_t type) {
  require(library().BackendCreateDescriptor(type, &descriptor_), "a descriptor");
}
Descriptor::~Descriptor() {
  if (descriptor_) library().BackendDestroyDescriptor(descriptor_);
}
void Descriptor::set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
                     const void* values) {
  require(library().BackendSetAttribute(descriptor_, name, type, count, values), "an attribute");
}
void Descriptor::finalize(const char* what) { require(library().BackendFinalize(descriptor_), what); }

// --- graphs

namespace {
constexpr cudnnDataType_t kCompute = CUDNN_DATA_FLOAT;

std::unique_ptr<Descriptor> make_tensor(int64_t id, cudnnDataType_t type, const Sizes& dims,
                                        const Sizes& strides, bool by_value, bool is_virtual) {
  auto d = std::make_unique<Descriptor>(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  d->set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
  d->set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims.data());
  d->set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides.data());
  d->set(CUDNN_ATTR_TENSOR_UNIQUE_ID, id);
  d->set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, by_value ? 4 : 16);
  d->set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &by_value);
  d->set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
  d->finalize("tensor");
  return d;
}
}  // namespace

Sizes packed(const Sizes& n) { return {n[1] * n[2] * n[3], n[2] * n[3], n[3], 1}; }

Graph::Tensor Graph::tensor(int64_t id, cudnnDataType_t type, const Sizes& dims, const Sizes& strides,
                            bool by_value) {
  return tensors_.emplace_back(make_tensor(id, type, dims, strides, by_value, false)).get();
}
Graph::Tensor Graph::between(const Sizes& dims, const Sizes& strides, cudnnDataType_t type) {
  const auto id = kFirstVirtual + static_cast<int64_t>(tensors_.size());
  return tensors_.emplace_back(make_tensor(id, type, dims, strides, false, true)).get();
}

void Graph::operation(cudnnBackendDescriptorType_t type,
                      const std::vector<std::pair<cudnnBackendAttributeName_t, Tensor> >& tensors) {
  Descriptor op(type);
  for (const auto& [name, tensor] : tensors) op.set(name, *tensor);
  op.finalize("operation");
  operations_.push_back(std::move(op));
}

void Graph::pointwise(cudnnPointwiseMode_t mode, Tensor x, Tensor b, Tensor y) {
  Descriptor how(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  how.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
  how.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &kCompute);
  how.finalize("pointwise");
  std::vector<std::pair<cudnnBackendAttributeName_t, Tensor> > tensors{
      {CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, &how},
      {CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x},
      {CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y}};
  if (b) tensors.emplace_back(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
  operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, tensors);
}

void Graph::matmul(Tensor a, Tensor b, Tensor c) {
  Descriptor how(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
  how.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &kCompute);
  how.finalize("matmul");
  operation(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, {{CUDNN_ATTR_OPERATION_MATMUL_DESC, &how},
                                                        {CUDNN_ATTR_OPERATION_MATMUL_ADESC, a},
                                                        {CUDNN_ATTR_OPERATION_MATMUL_BDESC, b},
                                                        {CUDNN_ATTR_OPERATION_MATMUL_CDESC, c}});
}

void Graph::sum(Tensor x, Tensor y) {
  const cudnnReduceTensorOp_t add = CUDNN_REDUCE_TENSOR_ADD;
  Descriptor how(CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
  how.set(CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &add);
  how.set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &kCompute);
  how.finalize("reduction");
  operation(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, {{CUDNN_ATTR_OPERATION_REDUCTION_DESC, &how},
                                                           {CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x},
                                                           {CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y}});
}

void Graph::view(Tensor x, Tensor y) {
  operation(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR,
            {{CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x}, {CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y}});
}

// --- plans

namespace {

/// Whether the engine of a configuration gives the same bits each time.
bool is_deterministic(cudnnBackendDescriptor_t configuration) {
  const Library& l = library();
  const Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  cudnnBackendDescriptor_t e = engine.get();
  int64_t count = 0;
  std::array<cudnnBackendNumericalNote_t, CUDNN_NUMERICAL_NOTE_TYPE_COUNT> notes;
  require(l.BackendGetAttribute(configuration, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                &count, &e),
          "engine");
  require(l.BackendGetAttribute(e, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, notes.size(),
                                &count, notes.data()),
          "numerical notes");
  for (int64_t i = 0; i < count; ++i)
    if (notes[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC) return false;
  return true;
}

/// The configurations that a mode of the heuristics proposes for a graph, best first.
std::vector<Descriptor> configurations_of(const Descriptor& graph, cudnnBackendHeurMode_t mode) {
  Descriptor heuristic(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
  heuristic.finalize("heuristics");
  constexpr int64_t kMost = 16;
  std::vector<Descriptor> all;
  std::vector<cudnnBackendDescriptor_t> raw;
  for (int64_t i = 0; i < kMost; ++i) {
    all.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    raw.push_back(all.back().get());
  }
  int64_t found = 0;
  require(library().BackendGetAttribute(heuristic.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                        CUDNN_TYPE_BACKEND_DESCRIPTOR, kMost, &found, raw.data()),
          "results of the heuristics");
  while (static_cast<int64_t>(all.size()) > found) all.pop_back();
  return all;
}

}  // namespace

Plan plan_of(const Graph& graph, bool any) {
  const cudnnHandle_t own = handle();
  Descriptor described(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  std::vector<cudnnBackendDescriptor_t> operations;
  for (const Descriptor& op : graph.operations()) operations.push_back(op.get());
  described.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                static_cast<int64_t>(operations.size()), operations.data());
  described.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &own);
  described.finalize("operation graph");

  std::string why = "cuDNN, heuristics: no engine";
  for (cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) try {
      for (const Descriptor& configuration : configurations_of(described, mode)) try {
          if (!any && !is_deterministic(configuration.get()))
            throw Error("ERR_CUDA", "cuDNN: none of its engines for this graph is deterministic");
          Descriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
          plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &own);
          plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration);
          plan.finalize("execution plan");
          int64_t count = 0, bytes = 0;
          require(library().BackendGetAttribute(plan.get(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                                CUDNN_TYPE_INT64, 1, &count, &bytes),
                  "workspace size");
          return {std::move(plan), bytes};
        } catch (const Error& e) {
          why = e.what();
        }
    } catch (const Error& e) {
      why = e.what();
    }
  throw Error("ERR_CUDA", why);
}

void execute(const Plan& plan, const std::vector<int64_t>& ids, const std::vector<const void*>& pointers,
             void* workspace) {
  Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  const auto n = static_cast<int64_t>(ids.size());
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, ids.data());
  pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n, pointers.data());
  pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
  pack.finalize("variant pack");
  require(library().BackendExecute(handle(), plan.plan.get(), pack.get()), "execution");
}

}  // namespace cudnn

std::string cudnn_version() {
  const auto& l = cudnn::opened();
  return l.missing.empty() ? "cuDNN " + cudnn::version_text(l.GetVersion()) : "no cuDNN (" + l.missing + ")";
}
#endif

}  // namespace orch::kernels::cuda
