// A model: its spec, its parameters under their official names, and its forward pass as a graph.
#pragma once
#include <string>
#include <vector>

#include "../graph/graph.h"

namespace orch {

/// What an MM-DiT needs (paper, section 4; docs/guide/model.md); another backbone reads what it has use for.
struct ModelSpec {
  int64_t depth, heads, patch, latent_channels, context_dim, pooled_dim, pos_embed_max_size;
  bool qk_norm;
  std::vector<int64_t> dual_attention;  ///< ascending block indices
  std::string backbone = "mmdit";       ///< a name of backbones.cc

  int64_t hidden() const { return heads * kernels::kHeadDim; }
  bool dual(int64_t block) const;  ///< whether the block has a second, image-only attention (SD3.5-medium)
  void check() const;              ///< throws Error(ERR_MODEL_SPEC)
};

/// A parameter's place in the flat arrays. Offsets are multiples of 16 elements.
struct Parameter {
  std::string name;
  graph::Shape shape;
  int64_t offset, length;
  enum class Init : uint8_t { Zero, One, Xavier, Normal } init;
};

/// A contiguous range of the flat arrays whose gradients become complete together.
struct Bucket {
  int64_t offset, length;
};

/// All parameters, grouped into buckets in the order in which the backward pass completes them.
struct ParameterTable {
  /// The parameters of the spec's backbone. Throws Error(ERR_MODEL_SPEC).
  explicit ParameterTable(const ModelSpec& spec);
  const Parameter& operator[](const std::string& name) const;

  void add(std::string name, graph::Shape shape, Parameter::Init init);
  /// NAME.weight [out, in], and NAME.bias [out], which begins at zero.
  void add_linear(const std::string& name, int64_t out, int64_t in, Parameter::Init init);
  /// Ends the bucket of the parameters added since the last one ended.
  void close_bucket();

  std::vector<Parameter> parameters;
  std::vector<Bucket> buckets;
  int64_t length = 0;  ///< elements of the flat arrays, padding included
  int64_t count = 0;   ///< trainable parameters
};

/// Indices of the graph's Input values.
enum InputIndex : int64_t { kZ, kTimestep, kContext, kPooled, kPosition, kTarget, kGradScale, kInputs };

/// Sizes of one slot; height and width are those of the latent.
struct BatchShape {
  int64_t samples, height, width, context_tokens;
};

/// A model's graph for one batch shape, with the values that callers read.
struct ModelGraph {
  explicit ModelGraph(const graph::Backend& backend) : graph(backend) {}

  graph::Graph graph;
  graph::Ref velocity, loss;
  graph::Ref z, context, pooled;        ///< inputs whose gradients can be requested
  std::vector<std::string> attentions;  ///< names, in the order of the statistics
  double forward_flops = 0;
};

/// What the backward pass recomputes instead of keeping (kept bytes per token and block in bf16: 34 h, 24 h,
/// 16 h, 2 h).
enum class Recompute : int { Nothing = 0, Norms = 1, Mlp = 2, Block = 3 };

struct GraphOptions {
  DType compute;   ///< F32 or BF16: matmul operands and stored activations
  DType residual;  ///< F32, or the same as compute: the residual stream
  bool backward;
  bool input_gradients = false;
  Recompute recompute = Recompute::Nothing;
  /// The linear layers of the blocks, without those of the modulation, read 8-bit floats; compute is BF16.
  bool float8 = false;
  const graph::Backend& backend = graph::cpu_backend();
};

/// An architecture.
struct Backbone {
  const char* name;
  void (*parameters)(const ModelSpec& spec, ParameterTable& table);
  /// Builds, differentiates and plans the graph.
  void (*build)(ModelGraph& out, const ModelSpec& spec, const ParameterTable& table, const BatchShape& shape,
                const GraphOptions& options);
};

/// The backbones. Each has a file, and backbones.cc lists them.
extern const Backbone kMmdit;

/// The backbone that a spec names. Throws Error(ERR_MODEL_SPEC) if there is none.
const Backbone& backbone_of(const ModelSpec& spec);

/// The graph of the spec's backbone. Throws Error(ERR_TENSOR_SHAPE) if the shape does not fit the model.
std::unique_ptr<ModelGraph> build_model(const ModelSpec& spec, const ParameterTable& table,
                                        const BatchShape& shape, const GraphOptions& options);

/// out [count, 2 quarter]: sin(coordinate omega_j), then cos(coordinate omega_j), j = 0 ... quarter - 1, with
/// omega_j = 10000^(-j / quarter).
void encode_positions(const double* coordinates, int64_t count, int64_t quarter, float* out);
/// out [P * P, hidden], the sin-cos table with rows y * P + x: the first half of the channels encodes the
/// column, the second half the row; quarter = hidden / 4.
void position_table(const ModelSpec& spec, float* out);
/// out [height * width, hidden]: the centre of the table, for a grid of height x width patches.
void crop_positions(const ModelSpec& spec, const float* table, int64_t height, int64_t width, float* out);

}  // namespace orch
