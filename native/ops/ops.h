// The operations from which a backbone is written. Each function appends its values and nodes to the graph
// and registers its backward rule. Shapes and types are checked when the graph is built: Error(ERR_INTERNAL),
// or Error(ERR_TENSOR_SHAPE) if a latent does not divide into patches. Activations of a stream are
// [B * tokens, channels].
#pragma once
#include "../graph/graph.h"

namespace orch::ops {

using graph::Graph;
using graph::Ref;

/// The weights of a linear layer: weight [out, in], bias [out] (or none). Their gradients are always fp32.
struct Linear {
  Ref weight, bias;
};

/// A chunk of a modulation row: columns [chunk * h, (chunk + 1) * h) of mod [B, k * h].
struct Chunk {
  Ref mod = {};
  int64_t index = 0;
};

/// y = x W^T + b, stored in type `out`; x [rows, in], y [rows, out].
Ref linear(Graph& g, Ref x, const Linear& w, DType out);
/// y = gelu(before); `before` is none where y is all that a forward pass keeps.
struct Activated {
  Ref before, y;
};
/// gelu(x W^T + b) in x's type, in one operation where the backend fuses them. GELU then reads the fp32 sums,
/// and otherwise their rounded values. `backward`: whether the graph is differentiated. From `gelu_level` of
/// recomputation on y is recomputed from `before`.
Activated linear_gelu(Graph& g, Ref x, const Linear& w, bool backward, int gelu_level);
/// linear() of x.y, which must have no other use: where the backend fuses them, the product that computes its
/// gradient is followed by GELU's derivative.
Ref linear(Graph& g, const Activated& x, const Linear& w, DType out);
/// The same with operands in 8-bit floats (linear_float8.cc): bf16 x, weights and y; devices only. Both
/// widths are multiples of 16. Without `trains` there is no backward rule.
Ref linear_float8(Graph& g, Ref x, const Linear& w, bool trains);
/// The same of gelu(x), which is not stored in bf16, and is recomputed from `gelu_level` on.
Ref gelu_linear_float8(Graph& g, Ref x, const Linear& w, bool trains, int gelu_level);
/// x + gate * y in x's type; x, y [B * tokens, h].
Ref gate_residual(Graph& g, Ref x, Ref y, const Chunk& gate, int64_t samples);
/// adaLN, after a gated residual connection or alone. The first result is out = gate_residual(x, y), or x
/// itself if y is none. The second is LayerNorm(out) * (1 + scale) + shift, stored in type `normed`; the
/// scale is the chunk after the shift. From `norm_level` of recomputation on it is recomputed from the first.
std::pair<Ref, Ref> gate_norm(Graph& g, Ref x, Ref y, const Chunk& gate, const Chunk& shift, int64_t samples,
                              DType normed, int norm_level);
/// GELU, tanh approximation.
Ref gelu(Graph& g, Ref x);
/// SiLU of an fp32 value, stored in type `out`.
Ref silu(Graph& g, Ref x, DType out);
/// a + b; both have the same shape and type.
Ref add(Graph& g, Ref a, Ref b);

/// One stream's part of a joint attention.
struct AttentionStream {
  Ref qkv;  ///< [B * tokens, 3 * h], rows (3, heads, 64)
  int64_t tokens;
  Ref norm_q, norm_k;  ///< RMSNorm weights [64], or none
};
/// softmax(q k^T / 8) v over the tokens of all streams together, in the order given (one or two streams;
/// paper, section 4). With `queries_of_last_only` the first stream provides keys and values only, and its
/// output is none. Returns one [B * tokens, h] per stream.
std::vector<Ref> joint_attention(Graph& g, const std::vector<AttentionStream>& streams, int64_t samples,
                                 int64_t heads, bool queries_of_last_only);

/// [B, 256] sinusoidal embedding of timesteps [B] (fp32, 1000 t), stored in type `out`.
Ref timestep_embedding(Graph& g, Ref timesteps, DType out);
/// z [B, C, H, W] fp32 -> [B * N, C * p * p].
Ref patchify(Graph& g, Ref z, int64_t patch, DType out);
/// x [B * N, p * p * C] fp32 -> [B, C, H, W] fp32.
Ref unpatchify(Graph& g, Ref x, int64_t samples, int64_t channels, int64_t height, int64_t width,
               int64_t patch);
/// x + position [N, h], stored in type `out`.
Ref add_position(Graph& g, Ref x, Ref position, int64_t samples, DType out);
/// Converts the storage type. It has no backward rule: use it within backward rules. Returns x itself if it
/// already has type `out`.
Ref convert(Graph& g, Ref x, DType out);
/// Mean squared error [B] per sample of v against target [B, C, H, W]. With grad_scale [B] (fp32) it also
/// computes the gradient of v.
Ref mean_squared_error(Graph& g, Ref v, Ref target, Ref grad_scale);

}  // namespace orch::ops
