// The MM-DiT of SD3 and SD3.5: its parameters and its forward pass, written as in the paper (section 4;
// docs/guide/model.md). The backward pass follows from the rules of the operations.
#include "../core/error.h"
#include "../ops/ops.h"
#include "model.h"

namespace orch {
namespace {

using graph::Ref;
using ops::Chunk;

/// The final layer with the last block, then block by block, then the embedders.
void mmdit_parameters(const ModelSpec& spec, ParameterTable& table) {
  using Init = Parameter::Init;
  const int64_t h = spec.hidden(), features = spec.latent_channels * spec.patch * spec.patch;
  auto attention = [&](const std::string& name, bool with_output) {
    table.add_linear(name + ".qkv", 3 * h, h, Init::Xavier);
    if (with_output) table.add_linear(name + ".proj", h, h, Init::Xavier);
    if (spec.qk_norm) {
      table.add(name + ".ln_q.weight", {kernels::kHeadDim}, Init::One);
      table.add(name + ".ln_k.weight", {kernels::kHeadDim}, Init::One);
    }
  };
  auto mlp = [&](const std::string& name) {
    table.add_linear(name + ".fc1", 4 * h, h, Init::Xavier);
    table.add_linear(name + ".fc2", h, 4 * h, Init::Xavier);
  };

  table.add_linear("final_layer.linear", features, h, Init::Zero);
  table.add_linear("final_layer.adaLN_modulation.1", 2 * h, h, Init::Zero);
  for (int64_t b = spec.depth - 1; b >= 0; --b) {
    const std::string block = "joint_blocks." + std::to_string(b);
    const std::string x = block + ".x_block", c = block + ".context_block";
    const bool last = b == spec.depth - 1, dual = spec.dual(b);
    attention(x + ".attn", true);
    if (dual) attention(x + ".attn2", true);
    mlp(x + ".mlp");
    table.add_linear(x + ".adaLN_modulation.1", (dual ? 9 : 6) * h, h, Init::Zero);
    attention(c + ".attn", !last);
    if (!last) mlp(c + ".mlp");
    table.add_linear(c + ".adaLN_modulation.1", (last ? 2 : 6) * h, h, Init::Zero);
    table.close_bucket();
  }
  table.add("x_embedder.proj.weight", {h, spec.latent_channels, spec.patch, spec.patch}, Init::Xavier);
  table.add("x_embedder.proj.bias", {h}, Init::Zero);
  table.add_linear("t_embedder.mlp.0", h, 256, Init::Normal);
  table.add_linear("t_embedder.mlp.2", h, h, Init::Normal);
  table.add_linear("y_embedder.mlp.0", h, spec.pooled_dim, Init::Normal);
  table.add_linear("y_embedder.mlp.2", h, h, Init::Normal);
  table.add_linear("context_embedder", h, spec.context_dim, Init::Xavier);
  table.close_bucket();
}

/// Builds the graph of one model and batch shape.
struct Builder {
  ModelGraph& out_;
  const ModelSpec& spec_;
  const ParameterTable& table_;
  const BatchShape& shape_;
  const GraphOptions& options_;
  graph::Graph& g_ = out_.graph;
  const DType t_ = options_.compute;
  Ref conditioning_ = {};

  void build() {
    const int64_t samples = shape_.samples, tokens = image_tokens();
    const bool wanted = options_.input_gradients;
    const graph::Shape picture{samples, spec_.latent_channels, shape_.height, shape_.width};
    Ref z = g_.input("input.z_t", DType::F32, picture, kZ, wanted);
    Ref timestep = g_.input("timestep", DType::F32, {samples}, kTimestep);
    Ref context_in =
        g_.input("input.context", t_, {samples * shape_.context_tokens, spec_.context_dim}, kContext, wanted);
    Ref pooled = g_.input("input.pooled", t_, {samples, spec_.pooled_dim}, kPooled, wanted);
    Ref position = g_.input("position", DType::F32, {tokens, spec_.hidden()}, kPosition);

    // Conditioning: one fp32 row per sample, from the timestep and the pooled text embedding.
    Ref c = ops::add(g_, embedder("t_embedder", ops::timestep_embedding(g_, timestep, t_)),
                     embedder("y_embedder", pooled));
    conditioning_ = ops::silu(g_, c, t_);

    Ref x = ops::linear(g_, ops::patchify(g_, z, spec_.patch, t_), linear("x_embedder.proj"), t_);
    Stream image{ops::add_position(g_, x, position, samples, options_.residual)},
        context{ops::linear(g_, context_in, linear("context_embedder"), options_.residual)};

    for (int64_t b = 0; b < spec_.depth; ++b) block(b, image, context);
    recompute_from(Recompute::Nothing);

    x = norm(image, modulation("final_layer"), 0, Recompute::Nothing);
    x = ops::linear(g_, x, linear("final_layer.linear"), DType::F32);
    Ref v = ops::unpatchify(g_, x, samples, spec_.latent_channels, shape_.height, shape_.width, spec_.patch);
    g_[v].keep = true;

    Ref target = g_.input("target", DType::F32, picture, kTarget);
    Ref grad_scale = g_.input("gradient scale", DType::F32, {samples}, kGradScale);
    out_.velocity = v;
    out_.loss = ops::mean_squared_error(g_, v, target, grad_scale);
    out_.z = z;
    out_.context = context_in;
    out_.pooled = pooled;
    out_.forward_flops = g_.forward_flops();
    if (options_.backward) {
      g_.differentiate();
      g_.recompute(static_cast<int>(options_.recompute));
      if (wanted)
        for (Ref input : {z, context_in, pooled}) g_[g_.reverse().of(input)].keep = true;
    }
    g_.plan();
  }

  int64_t image_tokens() const { return (shape_.height / spec_.patch) * (shape_.width / spec_.patch); }

  /// Weights of matmuls have the compute type; all others are fp32, from the master copy.
  Ref parameter(const std::string& name, DType type) {
    const Parameter& p = table_[name];
    return g_.parameter(p.name, type, p.shape, p.offset);
  }
  ops::Linear linear(const std::string& name) {
    return {parameter(name + ".weight", t_), parameter(name + ".bias", DType::F32)};
  }

  /// A linear layer of a block on the tokens of a stream.
  Ref layer(const std::string& name, Ref x) {
    return options_.float8 ? ops::linear_float8(g_, x, linear(name), options_.backward)
                           : ops::linear(g_, x, linear(name), t_);
  }

  /// fc2(gelu(fc1(x))), of which GELU is recomputed as the norms are.
  Ref mlp(const std::string& name, Ref x) {
    constexpr int kGeluLevel = static_cast<int>(Recompute::Norms);
    if (options_.float8) {
      x = layer(name + ".fc1", x);
      recompute_from(Recompute::Block);
      return ops::gelu_linear_float8(g_, x, linear(name + ".fc2"), options_.backward, kGeluLevel);
    }
    const auto hidden = ops::linear_gelu(g_, x, linear(name + ".fc1"), options_.backward, kGeluLevel);
    recompute_from(Recompute::Block);
    return ops::linear(g_, hidden, linear(name + ".fc2"), t_);
  }

  /// The nodes appended from now on are recomputed from this level on.
  void recompute_from(Recompute level) { g_.set_recompute_level(static_cast<int>(level)); }

  /// A residual stream x + gate * y. The last branch y is added by the LayerNorm that follows, which reads
  /// and writes each row once for both.
  struct Stream {
    Ref x, y = {};
    Chunk gate = {};
  };
  void add(Stream& s, Ref y, const Chunk& gate) {
    add_branch(s);
    s = {s.x, y, gate};
  }
  void add_branch(Stream& s) {
    if (s.y) s = {ops::gate_residual(g_, s.x, s.y, s.gate, shape_.samples)};
  }
  /// LayerNorm with chunk `first` of the modulation as shift and the next chunk as scale.
  Ref norm(Stream& s, Ref mod, int64_t first, Recompute level = Recompute::Norms) {
    auto [x, normed] =
        ops::gate_norm(g_, s.x, s.y, s.gate, {mod, first}, shape_.samples, t_, static_cast<int>(level));
    s = {x};
    return normed;
  }
  /// Linear, SiLU, linear; output in fp32.
  Ref embedder(const std::string& name, Ref in) {
    Ref y = ops::linear(g_, in, linear(name + ".mlp.0"), DType::F32);
    return ops::linear(g_, ops::silu(g_, y, t_), linear(name + ".mlp.2"), DType::F32);
  }
  Ref modulation(const std::string& of) {
    return ops::linear(g_, conditioning_, linear(of + ".adaLN_modulation.1"), DType::F32);
  }
  ops::AttentionStream heads(const std::string& attention, Ref x, int64_t tokens) {
    ops::AttentionStream s{layer(attention + ".qkv", x), tokens, {}, {}};
    if (spec_.qk_norm) {
      s.norm_q = parameter(attention + ".ln_q.weight", DType::F32);
      s.norm_k = parameter(attention + ".ln_k.weight", DType::F32);
    }
    return s;
  }
  /// x + gate * proj(attention)
  void attention_output(const std::string& attention, Stream& x, Ref attended, const Chunk& gate) {
    add(x, layer(attention + ".proj", attended), gate);
  }
  /// x + gate * mlp(modulate(norm(x)))
  void feed_forward(const std::string& of, Stream& x, Ref mod) {
    Ref y = norm(x, mod, 3);
    recompute_from(Recompute::Mlp);
    y = mlp(of + ".mlp", y);
    add(x, y, {mod, 5});
    if (options_.recompute != Recompute::Block) return;
    // With the norm of the next block, the backward pass would recompute y, and with it this block, too
    // early.
    recompute_from(Recompute::Nothing);
    add_branch(x);
    recompute_from(Recompute::Block);
  }

  void block(int64_t index, Stream& x, Stream& context) {
    const std::string name = "joint_blocks." + std::to_string(index);
    const std::string xb = name + ".x_block", cb = name + ".context_block";
    const bool last = index == spec_.depth - 1, dual = spec_.dual(index);
    const int64_t samples = shape_.samples;

    recompute_from(Recompute::Nothing);
    Ref xm = modulation(xb), cm = modulation(cb);
    recompute_from(Recompute::Block);
    Ref cn = norm(context, cm, 0);
    Ref xn = norm(x, xm, 0);
    Ref xn2 = dual ? norm(x, xm, 6) : Ref{};

    // The text side of the last block provides keys and values only.
    auto attended = ops::joint_attention(
        g_, {heads(cb + ".attn", cn, shape_.context_tokens), heads(xb + ".attn", xn, image_tokens())},
        samples, spec_.heads, last);
    out_.attentions.push_back("block " + std::to_string(index));
    Ref attended2;
    if (dual) {
      attended2 = ops::joint_attention(g_, {heads(xb + ".attn2", xn2, image_tokens())}, samples, spec_.heads,
                                       false)[0];
      out_.attentions.push_back("block " + std::to_string(index) + " attn2");
    }

    attention_output(xb + ".attn", x, attended[1], {xm, 2});
    if (dual) attention_output(xb + ".attn2", x, attended2, {xm, 8});
    feed_forward(xb, x, xm);
    if (last) return;
    attention_output(cb + ".attn", context, attended[0], {cm, 2});
    feed_forward(cb, context, cm);
  }
};

void build_mmdit(ModelGraph& out, const ModelSpec& spec, const ParameterTable& table, const BatchShape& shape,
                 const GraphOptions& options) {
  Builder{out, spec, table, shape, options}.build();
}

}  // namespace

const Backbone kMmdit{"mmdit", mmdit_parameters, build_mmdit};

}  // namespace orch
