// Joint attention over the tokens of one or two streams, with RMSNorm of q and k.
#include "../core/error.h"
#include "ops.h"
#include "run.h"

namespace orch::ops {
namespace {

using kernels::AttentionDims;
using kernels::HeadDims;
using kernels::kHeadDim;

using kernels::Typed;

/// An operation on pairs of a sample and a head: f(run, kernels, the dims of its part).
template <class F>
std::unique_ptr<graph::Op> attention_op(const char* name, DType t, const AttentionDims& dims,
                                        size_t scratch_bytes, double flops, F f) {
  const auto run = [=](const Run& r, const auto& k) {
    AttentionDims d = dims;
    d.from = r.from;
    d.to = r.to;
    if (r.statistics) {  // statistics sum over all pairs, in order
      if (r.from > 0) return;
      d.to = dims.to;
    }
    f(r, k, d);
  };
  return graph::make_op(name, typed(t, run),
                        {.parts = dims.to, .flops = flops, .scratch_bytes = scratch_bytes});
}

struct Joint {
  Ref q, k, v;
};

/// Writes a stream's part of the joint q, k and v. Returns the backward rule; without `queries` the gradient
/// of q is zero.
std::function<void(graph::Reverse&)> split_heads(Graph& g, const AttentionStream& s, const Joint& j,
                                                 const HeadDims& d, bool queries) {
  const DType t = g[s.qkv].dtype;
  const TokenBlocks blocks{d.samples, d.tokens};
  const bool norm(s.norm_q);
  const graph::Shape rows{d.samples * d.tokens, d.heads};
  Ref rstd_q = norm ? g.activation("rstd q", DType::F32, rows) : Ref{};
  Ref rstd_k = norm ? g.activation("rstd k", DType::F32, rows) : Ref{};
  const auto forward = [=]<class T>(const Run& r, const Typed<T>& k) {
    blocks.each(r, [&](int64_t sample, int64_t samples, int64_t first, int64_t n) {
      const int64_t row = (sample * d.tokens + first) * d.heads;
      const int64_t to = sample * d.heads * d.joint_tokens * kHeadDim;
      k.split_heads(r.out<T>(0) + to, r.out<T>(1) + to, r.out<T>(2) + to, advanced(r.out<float>(3), row),
                    advanced(r.out<float>(4), row), r.in<T>(0) + row * 3 * kHeadDim, r.in<float>(1),
                    r.in<float>(2), {samples, n, d.heads, d.joint_tokens, d.offset + first});
    });
  };
  g.append("split heads, qk norm", {s.qkv, s.norm_q, s.norm_k}, {j.q, j.k, j.v, rstd_q, rstd_k},
           typed(t, forward), {.parts = blocks.parts()});
  return [=, &g](graph::Reverse& reverse) {
    Ref dqkv = reverse.create(s.qkv);
    // The gradients are per sample, so that samples can be computed separately; they are then added in order.
    const graph::Shape by_sample{d.samples, kHeadDim};
    Ref dgamma_q = norm ? g.activation("d gamma q", DType::F32, by_sample) : Ref{};
    Ref dgamma_k = norm ? g.activation("d gamma k", DType::F32, by_sample) : Ref{};
    const auto backward = [=]<class T>(const Run& r, const Typed<T>& k) {
      const int64_t row = r.from * d.tokens * d.heads, at = row * 3 * kHeadDim, gamma = r.from * kHeadDim;
      const int64_t from = r.from * d.heads * d.joint_tokens * kHeadDim;
      k.split_heads_backward(r.out<T>(0) + at, advanced(r.out<float>(1), gamma),
                             advanced(r.out<float>(2), gamma), advanced(r.in<T>(0), from), r.in<T>(1) + from,
                             r.in<T>(2) + from, r.in<T>(3) + at, advanced(r.in<float>(4), row),
                             advanced(r.in<float>(5), row), r.in<float>(6), r.in<float>(7),
                             {r.to - r.from, d.tokens, d.heads, d.joint_tokens, d.offset}, r.amax);
    };
    g.append("split heads, qk norm backward",
             {queries ? reverse.of(j.q) : Ref{}, reverse.of(j.k), reverse.of(j.v), s.qkv, rstd_q, rstd_k,
              s.norm_q, s.norm_k},
             {dqkv, dgamma_q, dgamma_k}, typed(t, backward), {.parts = d.samples, .finds_amax = 0});
    if (norm)
      g.append("gamma gradients", {dgamma_q, dgamma_k}, {g.gradient(g[s.norm_q]), g.gradient(g[s.norm_k])},
               [=](const Run& r) {
                 for (int i : {0, 1})
                   graph::write_gradient(r, r.out<float>(i), kHeadDim, [&](float* to) {
                     r.table.f32.column_sum(to, r.in<float>(i), d.samples, kHeadDim, kHeadDim);
                   });
               },
               {.scratch_bytes = sizeof(float) * kHeadDim});
    reverse.set(s.qkv, dqkv);
  };
}

}  // namespace

std::vector<Ref> joint_attention(Graph& g, const std::vector<AttentionStream>& streams, int64_t samples,
                                 int64_t heads, bool queries_of_last_only) {
  const DType t = g[streams[0].qkv].dtype;
  const int64_t width = heads * kHeadDim;
  int64_t tokens = 0;
  for (const auto& s : streams) {
    if (g[s.qkv].shape != graph::Shape{samples * s.tokens, 3 * width} || g[s.qkv].dtype != t)
      throw Error("ERR_INTERNAL", "joint_attention: qkv has another shape than its stream");
    tokens += s.tokens;
  }
  const int64_t split = streams.size() == 2 ? streams[0].tokens : 0;
  const AttentionDims d{samples, heads, tokens, queries_of_last_only ? split : 0, split};
  const double flops = 4.0 * samples * heads * (tokens - d.first_query) * tokens * kHeadDim;
  const graph::Shape joint_shape{samples, heads, tokens, kHeadDim};
  const Joint j{g.activation("q", t, joint_shape), g.activation("k", t, joint_shape),
                g.activation("v", t, joint_shape)};

  std::vector<std::function<void(graph::Reverse&)>> split_rules;
  for (int64_t offset = 0; const auto& s : streams) {
    const HeadDims of{samples, s.tokens, heads, tokens, offset};
    const bool queries = offset >= d.first_query;
    split_rules.push_back(split_heads(g, s, j, of, queries));
    offset += s.tokens;
  }

  Ref out0 = split && !queries_of_last_only ? g.activation("attention", t, {samples * split, width}) : Ref{};
  Ref out1 = g.activation("attention", t, {samples * (tokens - split), width});
  Ref lse = g.activation("log-sum-exp", DType::F32, {samples, heads, tokens});
  const int index = g.add_attention(d);
  const auto& k = g.backend().kernels();
  const size_t scratch =
      t == DType::F32 ? k.f32.attention_scratch_bytes(d) : k.b16.attention_scratch_bytes(d);
  const auto forward = [=]<class T>(const Run& r, const Typed<T>& k, const AttentionDims& part) {
    k.attention({r.out<T>(0), r.out<T>(1)}, r.out<float>(2), r.statistics ? r.statistics + index : nullptr,
                r.in<T>(0), r.in<T>(1), r.in<T>(2), part, r.scratch);
  };
  g.append(attention_op("attention", t, d, scratch, flops, forward), {j.q, j.k, j.v}, {out0, out1, lse});
  g.on_reverse([=, &g](graph::Reverse& reverse) {
    Ref dout0 = out0 ? reverse.of(out0) : Ref{}, dout1 = reverse.of(out1);
    if (!dout1 || (out0 && !dout0)) throw Error("ERR_INTERNAL", "joint_attention: an output is not used");
    Joint dj{reverse.create(j.q), reverse.create(j.k), reverse.create(j.v)};
    const auto backward = [=]<class T>(const Run& r, const Typed<T>& k, const AttentionDims& part) {
      k.attention_backward(r.out<T>(0), r.out<T>(1), r.out<T>(2), {r.in<T>(0), r.in<T>(1)},
                           {r.in<T>(2), r.in<T>(3)}, r.in<float>(4), r.in<T>(5), r.in<T>(6), r.in<T>(7), part,
                           r.scratch);
    };
    g.append(attention_op("attention backward", t, d, scratch, 2.5 * flops, backward),
             {dout0, dout1, out0, out1, lse, j.q, j.k, j.v}, {dj.q, dj.k, dj.v});
    reverse.set(j.q, dj.q);
    reverse.set(j.k, dj.k);
    reverse.set(j.v, dj.v);
    for (const auto& rule : split_rules) rule(reverse);
  });
  return streams.size() == 2 ? std::vector<Ref>{out0, out1} : std::vector<Ref>{out1};
}

}  // namespace orch::ops
