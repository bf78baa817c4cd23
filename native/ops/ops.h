// The operations a backbone is written with. Each function appends its values and nodes to the graph and
// registers its backward rule; shapes are checked when the graph is built. Activations of a stream are [B *
// tokens, channels].
#pragma once
#include "../graph/graph.h"

namespace orch::ops {

using graph::Graph;
using graph::Ref;

/// Weights of a linear layer: weight [out, in], bias [out] (or none), always with fp32 gradients.
struct Linear {
  Ref weight, bias;
};

/// A chunk of a modulation row: columns [chunk * h, (chunk + 1) * h) of mod [B, k * h].
struct Chunk {
  Ref mod;
  int64_t index;
};

/// y = x W^T + b, stored as `out`.
Ref linear(Graph& g, Ref x, const Linear& w, DType out);
/// LayerNorm(x) * (1 + scale) + shift, stored as `out`; x [B * tokens, h] in the residual's type.
Ref layer_norm_modulate(Graph& g, Ref x, const Chunk& shift, const Chunk& scale, int64_t samples, DType out);
/// x + gate * y, in x's type.
Ref gate_residual(Graph& g, Ref x, Ref y, const Chunk& gate, int64_t samples);
/// GELU, tanh form.
Ref gelu(Graph& g, Ref x);
/// SiLU of an fp32 value, stored as `out`.
Ref silu(Graph& g, Ref x, DType out);
/// a + b, same shapes and types.
Ref add(Graph& g, Ref a, Ref b);

/// One stream's part in a joint attention.
struct AttentionStream {
  Ref qkv;  ///< [B * tokens, 3 * h], rows (3, heads, 64)
  int64_t tokens;
  Ref norm_q, norm_k;  ///< RMSNorm weights [64], or none
};
/// softmax(q k^T / 8) v over the streams' tokens together, in the order given (one or two streams). With
/// `queries_of_last_only`, the first stream gives keys and values only, and its output is none. Returns one
/// [B * tokens, h] for each stream.
std::vector<Ref> joint_attention(Graph& g, const std::vector<AttentionStream>& streams, int64_t samples,
                                 int64_t heads, bool queries_of_last_only);

/// [B, 256] sinusoid of timesteps [B] (fp32, 1000 t), stored as `out`.
Ref timestep_embedding(Graph& g, Ref timesteps, DType out);
/// z [B, C, H, W] fp32 -> [B * N, C * p * p].
Ref patchify(Graph& g, Ref z, int64_t patch, DType out);
/// x [B * N, p * p * C] fp32 -> [B, C, H, W] fp32.
Ref unpatchify(Graph& g, Ref x, int64_t samples, int64_t channels, int64_t height, int64_t width,
               int64_t patch);
/// x + position [N, h], stored as `out`.
Ref add_position(Graph& g, Ref x, Ref position, int64_t samples, DType out);
/// Conversion of storage, without a backward rule: for use within backward rules. x itself if it is `out`
/// already.
Ref convert(Graph& g, Ref x, DType out);
/// Per-sample mean squared error [B] of v against target [B, C, H, W]; with grad_scale [B] (fp32) also d v.
Ref mean_squared_error(Graph& g, Ref v, Ref target, Ref grad_scale);

}  // namespace orch::ops
