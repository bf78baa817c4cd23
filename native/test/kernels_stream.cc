// LayerNorm, gates, heads: kernels on a stream of tokens.
#include "kernels_support.h"

namespace orch::test {
namespace {

using kernels::HeadDims;
using kernels::StreamDims;
using kernels::Table;

const StreamDims kStreams[] = {{1, 1, 64, 64},     {2, 7, 128, 768},   {3, 24, 192, 1152}, {1, 33, 320, 640},
                               {2, 100, 384, 384}, {1, 2, 4160, 4160}, {1, 2, 8320, 8320}};
const HeadDims kHeads[] = {
    {1, 1, 1, 1, 0}, {2, 7, 2, 9, 2}, {3, 24, 3, 24, 0}, {1, 33, 1, 100, 67}, {2, 16, 6, 24, 8}};

template <class R, class T>
std::string label(const Table& t, const StreamDims& d) {
  return text(t.isa, is_single<R> ? " fp32/" : " bf16/", is_single<T> ? "fp32" : "bf16", " [", d.samples,
              ", ", d.tokens, ", ", d.width, "]");
}

TEST("kernels gate_norm without a gate") {
  for_each_residual_set([]<class R, class T>(const Table& t) {
    for (const StreamDims& d : kStreams) {
      const int64_t rows = d.samples * d.tokens, n = rows * d.width, mods = d.samples * d.mod_stride;
      const auto x = random<R>(n, 1, 2, 0.5);
      const auto shift = random<float>(mods, 2, 0.5), scale = random<float>(mods, 3, 0.5);
      std::vector<T> y(n);
      std::vector<float> mean(rows), rstd(rows);
      run_twice("gate_norm",
                [&] {
                  t.residual<R, T>().gate_norm(nullptr, y.data(), mean.data(), rstd.data(), x.data(), nullptr,
                                               nullptr, 0, shift.data(), scale.data(), d, nullptr);
                },
                {bytes(y), bytes(mean), bytes(rstd)});
      const auto want = reference::layer_norm_modulate(wide(x), wide(shift), wide(scale), d);
      const std::string at = label<R, T>(t, d);
      CHECK_CLOSE(relative(y, want.y), bound<T>(1e-6, 1.0 / 256), at);
      CHECK_CLOSE(relative(mean, want.mean), 1e-6, at);
      CHECK_CLOSE(relative(rstd, want.rstd), 1e-6, at);
    }
  });
}

TEST("kernels gate_norm_backward without a gate") {
  for_each_residual_set([]<class R, class T>(const Table& t) {
    for (const StreamDims& d : kStreams) {
      const int64_t rows = d.samples * d.tokens, n = rows * d.width, mods = d.samples * d.mod_stride;
      const auto x = random<R>(n, 1, 2, 0.5), add = random<R>(n, 5);
      const auto dy = random<T>(n, 4);
      const auto scale = random<float>(mods, 3, 0.5);
      const auto f = reference::layer_norm_modulate(wide(x), wide(scale), wide(scale), d);
      std::vector<float> mean(f.mean.begin(), f.mean.end()), rstd(f.rstd.begin(), f.rstd.end());
      const auto want = reference::layer_norm_modulate_backward(wide(dy), wide(x), wide(scale), d);
      const std::string at = label<R, T>(t, d);
      std::vector<R> dx(n);
      std::vector<float> dshift(mods), dscale(mods);
      for (const bool with_add : {false, true}) {
        const R* extra = with_add ? add.data() : nullptr;
        run_twice("gate_norm_backward",
                  [&] {
                    t.residual<R, T>().gate_norm_backward(
                        dx.data(), extra, dshift.data(), dscale.data(), nullptr, nullptr, dy.data(), x.data(),
                        mean.data(), rstd.data(), scale.data(), nullptr, nullptr, 0, d, nullptr);
                  },
                  {bytes(dx), bytes(dshift), bytes(dscale)});
        Vec expected = want.dx;
        if (with_add) {
          for (int64_t i = 0; i < n; ++i) expected[i] += to_float(add[i]);
        }
        CHECK_CLOSE(relative(dx, expected), bound<R>(2e-6, 1.0 / 256), at);
        for (int64_t b = 0; b < d.samples; ++b) {  // memory between the chunks is not written
          const auto chunk = [&](const std::vector<float>& v) { return &v[b * d.mod_stride]; };
          CHECK_CLOSE(relative_error(chunk(dshift), &want.dshift[b * d.mod_stride], d.width), 2e-6, at);
          CHECK_CLOSE(relative_error(chunk(dscale), &want.dscale[b * d.mod_stride], d.width), 2e-6, at);
          for (int64_t i = d.width; i < d.mod_stride; ++i) CHECK(std::isnan(chunk(dshift)[i]), at);
        }
      }
      std::vector<R> in_place = add;
      t.residual<R, T>().gate_norm_backward(in_place.data(), in_place.data(), dshift.data(), dscale.data(),
                                            nullptr, nullptr, dy.data(), x.data(), mean.data(), rstd.data(),
                                            scale.data(), nullptr, nullptr, 0, d, nullptr);
      CHECK(std::memcmp(in_place.data(), dx.data(), n * sizeof(R)) == 0, at, ": dx = dx_add");
    }
  });
}

TEST("kernels gate_residual") {
  for_each_residual_set([]<class R, class T>(const Table& t) {
    for (const StreamDims& d : kStreams) {
      const int64_t n = d.samples * d.tokens * d.width, mods = d.samples * d.mod_stride;
      const auto x = random<R>(n, 1), dout = random<R>(n, 3);
      const auto y = random<T>(n, 2);
      const auto gate = random<float>(mods, 4);
      const std::string at = label<R, T>(t, d);
      std::vector<R> out(n);
      std::vector<T> dy(n);
      std::vector<float> dgate(mods);
      run_twice("gate_residual",
                [&] { t.residual<R, T>().gate_residual(out.data(), x.data(), y.data(), gate.data(), d); },
                {bytes(out)});
      CHECK_CLOSE(relative(out, reference::gate_residual(wide(x), wide(y), wide(gate), d)),
                  bound<R>(1e-6, 1.0 / 256), at);
      run_twice("gate_residual_backward",
                [&] {
                  t.residual<R, T>().gate_residual_backward(dy.data(), dgate.data(), dout.data(), y.data(),
                                                            gate.data(), d);
                },
                {bytes(dy), bytes(dgate)});
      const auto want = reference::gate_residual_backward(wide(dout), wide(y), wide(gate), d);
      CHECK_CLOSE(relative(dy, want.dy), bound<T>(1e-6, 1.0 / 256), at);
      for (int64_t b = 0; b < d.samples; ++b) {
        CHECK_CLOSE(relative_error(&dgate[b * d.mod_stride], &want.dgate[b * d.mod_stride], d.width), 2e-6,
                    at);
        for (int64_t i = d.width; i < d.mod_stride; ++i) CHECK(std::isnan(dgate[b * d.mod_stride + i]), at);
      }
    }
  });
}

TEST("kernels gate_norm: the bits of gate_residual and of the norm alone") {
  for_each_residual_set([]<class R, class T>(const Table& t) {
    const auto& k = t.residual<R, T>();
    for (const StreamDims& d : kStreams) {
      StreamDims of_gate = d;  // possibly a row of another block
      of_gate.mod_stride += 64;
      const int64_t rows = d.samples * d.tokens, n = rows * d.width, mods = d.samples * d.mod_stride,
                    gates = d.samples * of_gate.mod_stride;
      const auto x = random<R>(n, 1), dx_add = random<R>(n, 2);
      const auto y = random<T>(n, 3), dnormed = random<T>(n, 4);
      const auto gate = random<float>(gates, 5), shift = random<float>(mods, 6),
                 scale = random<float>(mods, 7, 0.5);
      const std::string at = label<R, T>(t, d);
      std::vector<R> out(n), want_out(n), dx(n), want_dx(n);
      std::vector<T> normed(n), want_normed(n), dy(n), want_dy(n);
      std::vector<float> mean(rows), rstd(rows), want_mean(rows), want_rstd(rows), dshift(mods), dscale(mods),
          dgate(gates), want_dshift(mods, NAN), want_dscale(mods, NAN), want_dgate(gates, NAN);
      const auto same = [&]<class E>(const char* what, const std::vector<E>& got,
                                     const std::vector<E>& want) {
        // Neither writes the memory between the chunks.
        int64_t differing = 0;
        for (size_t i = 0; i < got.size(); ++i)
          differing += std::memcmp(&got[i], &want[i], sizeof(E)) != 0 &&
                       !(std::isnan(to_float(got[i])) && std::isnan(to_float(want[i])));
        CHECK(differing == 0, at, ": ", differing, " elements of ", what);
      };
      run_twice("gate_norm",
                [&] {
                  k.gate_norm(out.data(), normed.data(), mean.data(), rstd.data(), x.data(), y.data(),
                              gate.data(), of_gate.mod_stride, shift.data(), scale.data(), d, nullptr);
                },
                {bytes(out), bytes(normed), bytes(mean), bytes(rstd)});
      k.gate_residual(want_out.data(), x.data(), y.data(), gate.data(), of_gate);
      k.gate_norm(nullptr, want_normed.data(), want_mean.data(), want_rstd.data(), want_out.data(), nullptr,
                  nullptr, 0, shift.data(), scale.data(), d, nullptr);
      same("out", out, want_out);
      same("normed", normed, want_normed);
      same("mean", mean, want_mean);
      same("rstd", rstd, want_rstd);
      for (const R* add : {static_cast<const R*>(nullptr), dx_add.data()}) {
        run_twice("gate_norm_backward",
                  [&] {
                    k.gate_norm_backward(dx.data(), add, dshift.data(), dscale.data(), dy.data(),
                                         dgate.data(), dnormed.data(), out.data(), mean.data(), rstd.data(),
                                         scale.data(), y.data(), gate.data(), of_gate.mod_stride, d, nullptr);
                  },
                  {bytes(dx), bytes(dshift), bytes(dscale), bytes(dy), bytes(dgate)});
        k.gate_norm_backward(want_dx.data(), add, want_dshift.data(), want_dscale.data(), nullptr, nullptr,
                             dnormed.data(), out.data(), mean.data(), rstd.data(), scale.data(), nullptr,
                             nullptr, 0, d, nullptr);
        k.gate_residual_backward(want_dy.data(), want_dgate.data(), want_dx.data(), y.data(), gate.data(),
                                 of_gate);
        same("dx", dx, want_dx);
        same("dshift", dshift, want_dshift);
        same("dscale", dscale, want_dscale);
        same("dy", dy, want_dy);
        same("dgate", dgate, want_dgate);
      }
    }
  });
}

TEST("kernels add_position") {
  for_each_residual_set([]<class R, class T>(const Table& t) {
    for (const auto& [samples, tokens, width] : {std::array<int64_t, 3>{1, 1, 64}, {3, 7, 192}, {2, 5, 13}}) {
      const auto x = random<T>(samples * tokens * width, 1);
      const auto position = random<float>(tokens * width, 2);
      std::vector<R> out(x.size());
      run_twice("add_position",
                [&] {
                  t.residual<R, T>().add_position(out.data(), x.data(), position.data(), samples, tokens,
                                                  width);
                },
                {bytes(out)});
      Vec want = wide(x);
      for (size_t i = 0; i < want.size(); ++i) want[i] += position[i % position.size()];
      CHECK_CLOSE(relative(out, want), bound<R>(1e-6, 1.0 / 256), t.isa);
    }
  });
}

/// [samples, 64] summed over the samples.
Vec sum_rows(const std::vector<float>& x) {
  Vec sum(64);
  for (size_t i = 0; i < x.size(); ++i) sum[i % 64] += x[i];
  return sum;
}

TEST("kernels split_heads") {
  for_each_kernel_set([]<class T>(const Table& t) {
    for (const HeadDims& d : kHeads) {
      const int64_t rows = d.samples * d.tokens,
                    joint = d.samples * d.heads * d.joint_tokens * reference::kHeadDim;
      const auto qkv = random<T>(rows * 3 * d.heads * 64, 1, 1.5);
      const auto gq = random<float>(64, 2, 0.3, 1), gk = random<float>(64, 3, 0.3, 1);
      const auto dq = random<T>(joint, 4), dk = random<T>(joint, 5), dv = random<T>(joint, 6);
      const Vec wq = wide(gq), wk = wide(gk), wide_dq = wide(dq);
      const std::string at =
          text(t.isa, is_single<T> ? " fp32" : " bf16", " tokens ", d.tokens, " heads ", d.heads);
      for (const bool norm : {true, false}) {
        std::vector<T> q(joint), k(joint), v(joint), dqkv(qkv.size());
        std::vector<float> q_rstd(rows * d.heads), k_rstd(rows * d.heads), dgq(d.samples * 64),
            dgk(d.samples * 64);
        const float *gamma_q = norm ? gq.data() : nullptr, *gamma_k = norm ? gk.data() : nullptr;
        run_twice("split_heads",
                  [&] {
                    t.typed<T>().split_heads(q.data(), k.data(), v.data(), q_rstd.data(), k_rstd.data(),
                                             qkv.data(), gamma_q, gamma_k, d);
                  },
                  {bytes(q), bytes(k), bytes(v), bytes(q_rstd), bytes(k_rstd)});
        const auto want = reference::split_heads(wide(qkv), norm ? &wq : nullptr, norm ? &wk : nullptr, d);
        const auto compare = [&](const std::vector<T>& got, const Vec& expected, double limit) {
          Vec mine, theirs;  // positions of this stream; the others must not be written
          for (int64_t i = 0; i < joint; ++i) {
            const int64_t position = i / 64 % d.joint_tokens - d.offset;
            if (position >= 0 && position < d.tokens) {
              mine.push_back(to_float(got[i]));
              theirs.push_back(expected[i]);
            } else {
              CHECK(std::isnan(to_float(got[i])), at, ": wrote outside its stream");
            }
          }
          CHECK_CLOSE(relative(mine, theirs), limit, at);
        };
        compare(q, want.q, norm ? bound<T>(1e-6, 1.0 / 256) : 0);
        compare(k, want.k, norm ? bound<T>(1e-6, 1.0 / 256) : 0);
        compare(v, want.v, 0);
        if (norm) {
          CHECK_CLOSE(relative(q_rstd, want.q_rstd), 1e-6, at);
          CHECK_CLOSE(relative(k_rstd, want.k_rstd), 1e-6, at);
        } else {
          for (int64_t i = 0; i < rows * d.heads; ++i) {
            q_rstd[i] = k_rstd[i] = 1;
          }
        }
        for (const bool with_q : {true, false}) {
          run_twice("split_heads_backward",
                    [&] {
                      t.typed<T>().split_heads_backward(
                          dqkv.data(), norm ? dgq.data() : nullptr, norm ? dgk.data() : nullptr,
                          with_q ? dq.data() : nullptr, dk.data(), dv.data(), qkv.data(), q_rstd.data(),
                          k_rstd.data(), gamma_q, gamma_k, d, nullptr);
                    },
                    {bytes(dqkv), bytes(dgq), bytes(dgk)});
          const auto grad =
              reference::split_heads_backward(with_q ? &wide_dq : nullptr, wide(dk), wide(dv), wide(qkv),
                                              norm ? &wq : nullptr, norm ? &wk : nullptr, d);
          CHECK_CLOSE(relative(dqkv, grad.dqkv), norm ? bound<T>(2e-6, 1.0 / 256) : 0, at);
          if (norm) {
            CHECK_CLOSE(relative(sum_rows(dgq), grad.dgamma_q), 2e-6, at);
            CHECK_CLOSE(relative(sum_rows(dgk), grad.dgamma_k), 2e-6, at);
          }
        }
      }
    }
  });
}

TEST("kernels reference: LayerNorm, gate and heads against finite differences") {
  const StreamDims d{2, 3, 64, 70};
  const int64_t n = d.samples * d.tokens * d.width, mods = d.samples * d.mod_stride;
  Vec x = wide(random<float>(n, 1, 2, 0.5)), y = wide(random<float>(n, 2));
  const Vec w = wide(random<float>(n, 3));
  Vec shift = wide(random<float>(mods, 4)), scale = wide(random<float>(mods, 5));
  const auto norm = reference::layer_norm_modulate_backward(w, x, scale, d);
  const auto norm_loss = [&] { return dot(w, reference::layer_norm_modulate(x, shift, scale, d).y); };
  check_differences("dx", x, norm.dx, norm_loss);
  check_differences("dshift", shift, norm.dshift, norm_loss);
  check_differences("dscale", scale, norm.dscale, norm_loss);

  const auto gate = reference::gate_residual_backward(w, y, scale, d);
  const auto gate_loss = [&] { return dot(w, reference::gate_residual(x, y, scale, d)); };
  check_differences("dy", y, gate.dy, gate_loss);
  check_differences("dgate", scale, gate.dgate, gate_loss);

  const HeadDims h{2, 3, 1, 5, 2};
  Vec qkv = wide(random<float>(h.samples * h.tokens * 3 * 64, 6)), gq = wide(random<float>(64, 7)),
      gk = wide(random<float>(64, 8));
  const int64_t joint = h.samples * h.joint_tokens * 64;
  const Vec dq = wide(random<float>(joint, 9)), dk = wide(random<float>(joint, 10)),
            dv = wide(random<float>(joint, 11));
  const auto heads = reference::split_heads_backward(&dq, dk, dv, qkv, &gq, &gk, h);
  const auto heads_loss = [&] {
    const auto f = reference::split_heads(qkv, &gq, &gk, h);
    return dot(dq, f.q) + dot(dk, f.k) + dot(dv, f.v);
  };
  check_differences("dqkv", qkv, heads.dqkv, heads_loss);
  check_differences("dgamma_q", gq, heads.dgamma_q, heads_loss);
  check_differences("dgamma_k", gk, heads.dgamma_k, heads_loss);
}

}  // namespace
}  // namespace orch::test
