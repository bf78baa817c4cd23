#include "attention_cudnn.h"

#include <array>
#include <cstdlib>
#include <map>

#include "../../core/error.h"
#include "cudnn.h"
#include "device.h"
#include "matmul.h"

namespace orch::kernels::cuda {

namespace {

#ifdef ORCH_HAS_CUDNN
enum Id : int64_t { kQ = 1, kK, kV, kO, kStats, kDO, kDQ, kDK, kDV, kDelta, kScaleId, kOneId };
constexpr float kLogitScale = 0.125f, kOne = 1.0f;

using cudnn::Graph, cudnn::Sizes;

/// The tensors of a shape: q, k, v and their gradients are [samples, heads, tokens, 64], of which only the
/// queries from first_query on are used.
struct Shape {
  Graph& graph;
  AttentionDims d;
  int64_t queries = d.tokens - d.first_query;

  Sizes dims(int64_t rows, int64_t columns) const { return {d.samples, d.heads, rows, columns}; }
  Graph::Tensor heads(Id id, int64_t rows) const {
    return graph.tensor(id, CUDNN_DATA_BFLOAT16, dims(rows, kHeadDim), head_strides());
  }
  /// [samples, queries, heads * 64]
  Graph::Tensor joint(Id id) const {
    return graph.tensor(id, CUDNN_DATA_BFLOAT16, dims(queries, kHeadDim),
                        {queries * d.heads * kHeadDim, kHeadDim, d.heads * kHeadDim, 1});
  }
  Graph::Tensor log_sum_exp() const {
    return graph.tensor(kStats, CUDNN_DATA_FLOAT, dims(queries, 1), {d.heads * d.tokens, d.tokens, 1, 1});
  }
  Graph::Tensor number(Id id) const {
    return graph.tensor(id, CUDNN_DATA_FLOAT, {1, 1, 1, 1}, {1, 1, 1, 1}, true);
  }
  Sizes head_strides() const { return {d.heads * d.tokens * kHeadDim, d.tokens * kHeadDim, kHeadDim, 1}; }
};

/// Rows and columns exchanged.
Sizes transposed(Sizes sizes) {
  std::swap(sizes[2], sizes[3]);
  return sizes;
}

/// The single operation of cuDNN 9.13 and newer.
Graph forward_graph(const AttentionDims& d) {
  Graph g;
  const Shape s{g, d};
  g.operation(CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR,
              {{CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, s.heads(kQ, s.queries)},
               {CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC, s.heads(kK, d.tokens)},
               {CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC, s.heads(kV, d.tokens)},
               {CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC, s.joint(kO)},
               {CUDNN_ATTR_OPERATION_SDPA_FWD_STATSDESC, s.log_sum_exp()},
               {CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC, s.number(kScaleId)}});
  return g;
}

/// The graph of matmuls and pointwise operations that NVIDIA's frontend builds for its deterministic backward
/// pass (CompositeSDPABackwardNode), whose pattern the library's fused engines recognise: dQ is written by
/// its matmul and not accumulated in fp32, which would take atomic additions.
Graph backward_graph(const AttentionDims& d) {
  Graph g;
  const Shape s{g, d};
  const auto q = s.heads(kQ, s.queries), dout = s.joint(kDO);
  const auto columns = [&](Id id) {  // of k or v
    return g.tensor(id, CUDNN_DATA_BFLOAT16, transposed(s.dims(d.tokens, kHeadDim)),
                    transposed(s.head_strides()));
  };
  const auto k = columns(kK), v = columns(kV);
  const auto scale = s.number(kScaleId);
  const Sizes row = s.dims(s.queries, 1), square = s.dims(s.queries, d.tokens),
              channels = s.dims(s.queries, kHeadDim);
  const auto of = [&](const Sizes& dims) { return g.between(dims, cudnn::packed(dims)); };
  const auto pointwise = [&](cudnnPointwiseMode_t mode, Graph::Tensor x, Graph::Tensor b) {
    const auto y = of(square);
    g.pointwise(mode, x, b, y);
    return y;
  };
  const auto as_operand = [&](Graph::Tensor x) {  // transposed, in bf16
    const auto y = g.between(transposed(square), transposed(cudnn::packed(square)), CUDNN_DATA_BFLOAT16);
    g.view(x, y);
    return y;
  };

  // delta = rowsum(dO * O)
  const auto products = of(channels), sums = of(row);
  const auto delta = g.tensor(kDelta, CUDNN_DATA_FLOAT, row, cudnn::packed(row));
  g.pointwise(CUDNN_POINTWISE_MUL, dout, s.joint(kO), products);
  g.sum(products, sums);
  g.pointwise(CUDNN_POINTWISE_MUL, sums, s.number(kOneId), delta);

  // P = exp(scale Q K^T - lse), dV = P^T dO
  const auto logits = of(square);
  g.matmul(q, k, logits);
  const auto scaled = pointwise(CUDNN_POINTWISE_MUL, logits, scale);
  const auto shifted = pointwise(CUDNN_POINTWISE_SUB, scaled, s.log_sum_exp());
  const auto p = pointwise(CUDNN_POINTWISE_EXP, shifted, nullptr);
  g.matmul(as_operand(p), dout, s.heads(kDV, d.tokens));

  // dS = scale P (dO V^T - delta), dK = dS^T Q, dQ = dS K
  const auto dp = of(square);
  g.matmul(dout, v, dp);
  const auto centred = pointwise(CUDNN_POINTWISE_SUB, dp, delta);
  const auto ds = pointwise(CUDNN_POINTWISE_MUL, pointwise(CUDNN_POINTWISE_MUL, centred, p), scale);
  g.matmul(as_operand(ds), q, s.heads(kDK, d.tokens));
  const auto keys = g.between(s.dims(d.tokens, kHeadDim), s.head_strides(), CUDNN_DATA_BFLOAT16);
  g.view(k, keys);
  g.matmul(ds, keys, s.heads(kDQ, s.queries));
  return g;
}

const cudnn::Plan& plan_for(const AttentionDims& d, bool backward) {
  // Never destroyed: the library's own memory may be gone before the destructors of statics run.
  static auto& plans = *new std::map<std::array<int64_t, 5>, cudnn::Plan>;
  const std::array<int64_t, 5> key{d.samples, d.heads, d.tokens, d.first_query, backward};
  auto it = plans.find(key);
  if (it == plans.end()) {
    if (d.tokens == 1) throw Error("ERR_CUDA", "cuDNN does not support one token");
    const Graph graph = backward ? backward_graph(d) : forward_graph(d);
    it = plans.emplace(key, cudnn::plan_of(graph, attention_choice() == "cudnn-any")).first;
  }
  return it->second;
}

size_t delta_bytes(const AttentionDims& d) {
  return rounded(static_cast<size_t>(d.samples * d.heads * (d.tokens - d.first_query)) * sizeof(float));
}
size_t workspace_bytes(const AttentionDims& d, bool backward) {
  return static_cast<size_t>(plan_for(d, backward).bytes) + (backward ? delta_bytes(d) : 0);
}

void forward(bf16* out, float* lse, const bf16* q, const bf16* k, const bf16* v, const AttentionDims& d,
             void* workspace) {
  cudnn::execute(plan_for(d, false), {kQ, kK, kV, kO, kStats, kScaleId},
                 {q + d.first_query * kHeadDim, k, v, out, lse + d.first_query, &kLogitScale}, workspace);
}

void backward(bf16* dq, bf16* dk, bf16* dv, const bf16* dout, const bf16* out, const float* lse,
              const bf16* q, const bf16* k, const bf16* v, const AttentionDims& d, void* workspace) {
  cudnn::execute(plan_for(d, true), {kQ, kK, kV, kO, kStats, kDO, kDQ, kDK, kDV, kDelta, kScaleId, kOneId},
                 {q + d.first_query * kHeadDim, k, v, out, lse + d.first_query, dout,
                  dq + d.first_query * kHeadDim, dk, dv, workspace, &kLogitScale, &kOne},
                 static_cast<char*>(workspace) + delta_bytes(d));
}

const LibraryAttention* opened() {
  static const auto& library = *new LibraryAttention{cudnn_version(),
                                                     attention_choice() == "cudnn-any",
                                                     !attention_choice().empty(),
                                                     workspace_bytes,
                                                     forward,
                                                     backward};
  return &library;
}
#else
const LibraryAttention* opened() { return nullptr; }
#endif

}  // namespace

const LibraryAttention* library_attention(std::string* why) {
  static const std::string& given = *new std::string(attention_choice());
  static const std::string& version = *new std::string(cudnn_version());
  if (given == "own" || given == "portable" || plans_only()) {
    if (why) *why = plans_only() ? "nothing is launched" : "ORCHESTRATOR_CUDA_ATTENTION=" + given;
    return nullptr;
  }
  if (version.starts_with("cuDNN")) return opened();
  if (!given.empty()) throw Error("ERR_CUDA", "ORCHESTRATOR_CUDA_ATTENTION asks for cuDNN: ", version);
  if (why) *why = version;
  return nullptr;
}

}  // namespace orch::kernels::cuda
