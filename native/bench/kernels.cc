// The kernels of a training step at one shape, ready to be timed.
#include "kernels/kernels.h"

#include <cmath>
#include <cstdlib>
#include <memory>

#include "bench.h"
#include "optim/undo_log.h"

namespace orch::bench {
namespace {

/// Memory with ordinary values (uniform in (-1, 1), of type T), kept alive by the closures that use it.
template <class T>
T* memory(std::vector<std::shared_ptr<Buffer>>& keep, int64_t n) {
  keep.push_back(std::make_shared<Buffer>(static_cast<size_t>(n) * sizeof(T)));
  T* p = keep.back()->as<T>();
  uint32_t state = 1234567;
  for (int64_t i = 0; i < n; ++i) {
    state = state * 1664525u + 1013904223u;
    const float x = static_cast<float>(state >> 8) * (2.0f / 16777216.0f) - 1.0f;
    if constexpr (sizeof(T) == 4) {
      p[i] = x;
    } else {
      p[i] = to_bf16(x);
    }
  }
  return p;
}

template <class T>
std::vector<Kernel> list(const Shape& s) {
  const kernels::Table& table = kernels::cpu();
  const kernels::Typed<T>& t = table.typed<T>();
  std::vector<std::shared_ptr<Buffer>> keep;
  const int64_t width = s.heads * 64, rows = s.samples * s.tokens, n = rows * width,
                joint = s.tokens + s.context;
  const int64_t heads_n = s.samples * s.heads * joint * 64;
  const kernels::StreamDims stream{s.samples, s.tokens, width, 6 * width};
  const kernels::HeadDims heads{s.samples, s.tokens, s.heads, joint, s.context};
  const kernels::AttentionDims attention{s.samples, s.heads, joint, 0, s.context};
  const double e = sizeof(T);

  T *x = memory<T>(keep, n), *y = memory<T>(keep, n), *z = memory<T>(keep, n), *dy = memory<T>(keep, n);
  T *wide = memory<T>(keep, 4 * n), *wide2 = memory<T>(keep, 4 * n), *wide3 = memory<T>(keep, 4 * n);
  float *mod = memory<float>(keep, s.samples * 6 * width), *dmod = memory<float>(keep, s.samples * 6 * width);
  float *mean = memory<float>(keep, rows), *rstd = memory<float>(keep, rows);
  float *gamma = memory<float>(keep, 64), *dgamma = memory<float>(keep, s.samples * 64);
  float *q_rstd = memory<float>(keep, rows * s.heads), *k_rstd = memory<float>(keep, rows * s.heads);
  T *q = memory<T>(keep, heads_n), *k = memory<T>(keep, heads_n), *v = memory<T>(keep, heads_n);
  T *dq = memory<T>(keep, heads_n), *dk = memory<T>(keep, heads_n), *dv = memory<T>(keep, heads_n);
  T *out0 = memory<T>(keep, s.samples * s.context * width), *out1 = memory<T>(keep, n);
  T *dout0 = memory<T>(keep, s.samples * s.context * width), *dout1 = memory<T>(keep, n);
  float* lse = memory<float>(keep, s.samples * s.heads * joint);
  float* bias = memory<float>(keep, 4 * width);
  keep.push_back(std::make_shared<Buffer>(t.attention_scratch_bytes(attention)));
  void* scratch = keep.back()->data();
  auto stats = std::make_shared<kernels::AttentionStats>();
  const double qk = 4.0 * static_cast<double>(s.samples * s.heads * joint * joint) * 64;

  std::vector<Kernel> all;
  const auto add = [&](const char* name, double bytes, double flops, auto run) {
    all.push_back({name, bytes, flops, [keep, run] { run(); }});
  };
  add("layer_norm_modulate", 2 * e * n, 0, [=, &t] {
    t.gate_norm(nullptr, y, mean, rstd, x, nullptr, nullptr, 0, mod, mod + width, stream, nullptr);
  });
  add("layer_norm_modulate_backward", 4 * e * n, 0, [=, &t] {
    t.gate_norm_backward(y, z, dmod, dmod + width, nullptr, nullptr, dy, x, mean, rstd, mod + width, nullptr,
                         nullptr, 0, stream, nullptr);
  });
  add("gate_residual", 3 * e * n, 0, [=, &t] { t.gate_residual(z, x, y, mod, stream); });
  add("gate_residual_backward", 3 * e * n, 0,
      [=, &t] { t.gate_residual_backward(z, dmod, dy, y, mod, stream); });
  add("gate_norm", 4 * e * n, 0, [=, &t] {
    t.gate_norm(z, y, mean, rstd, x, dy, mod, stream.mod_stride, mod + width, mod + 2 * width, stream,
                nullptr);
  });
  add("gate_norm_backward", 6 * e * n, 0, [=, &t] {
    t.gate_norm_backward(y, z, dmod, dmod + width, out1, dmod + 2 * width, dy, x, mean, rstd, mod + width,
                         dout1, mod, stream.mod_stride, stream, nullptr);
  });
  add("split_heads", 6 * e * n, 0,
      [=, &t] { t.split_heads(q, k, v, q_rstd, k_rstd, wide, gamma, gamma, heads); });
  add("split_heads_backward", 8 * e * n, 0, [=, &t] {
    t.split_heads_backward(wide2, dgamma, dgamma, dq, dk, dv, wide, q_rstd, k_rstd, gamma, gamma, heads,
                           nullptr);
  });
  add("attention", 0, qk, [=, &t] { t.attention({out0, out1}, lse, nullptr, q, k, v, attention, scratch); });
  add("attention with statistics", 0, qk, [=, &t] {
    t.attention({out0, out1}, lse, stats.get(), q, k, v, attention, scratch);
  });
  add("attention_backward", 0, 2.5 * qk, [=, &t] {
    t.attention_backward(dq, dk, dv, {dout0, dout1}, {out0, out1}, lse, q, k, v, attention, scratch);
  });
  add("gelu", 8 * e * n, 0, [=, &t] { t.gelu(wide2, wide, 4 * n); });
  add("gelu_backward", 12 * e * n, 0, [=, &t] { t.gelu_backward(wide2, wide3, wide, 4 * n, nullptr); });
  add("add", 3 * e * n, 0, [=, &t] { t.add(z, x, y, n); });
  add("column_sum, 4h", 4 * e * n, 0, [=, &t] { t.column_sum(bias, wide, rows, 4 * width, 4 * width); });
  add("column_sum, h", e * n, 0, [=, &t] { t.column_sum(bias, x, rows, width, width); });

  const int64_t parameters = 12 * width * width;
  float *w = memory<float>(keep, parameters), *m = memory<float>(keep, parameters),
        *vv = memory<float>(keep, parameters);
  float *ema = memory<float>(keep, parameters), *grad = memory<float>(keep, parameters);
  bf16* w16 = memory<bf16>(keep, parameters);
  for (int64_t i = 0; i < parameters; ++i) vv[i] = std::abs(vv[i]);
  const optim::Optimizer& adamw = optim::named("adamw");
  const optim::Update o = adamw.update({10, 1e-9, 0.9, 0.999, 1e-8, 0, 1, 0.999});
  add("adamw, ema, bf16 copy", 38.0 * parameters, 0, [=, &table, &adamw] {
    float* const moments[] = {m, vv};
    table.raw.update[adamw.index](w, moments, ema, w16, grad, parameters, &o);
  });
  add("adamw of shared memory", 38.0 * parameters, 0,
      [=, &table, &adamw, log = std::make_shared<optim::UndoLog>()] {
        float* const moments[] = {m, vv};
        log->claim(1, 0, 0);
        table.raw.logged_update[adamw.index](w, moments, ema, w16, grad, parameters, &o, log.get());
      });
  add("add_squares", 4.0 * parameters, 0, [=, &table] {
    double sum = 0;
    table.raw.add_squares(&sum, grad, parameters);
    if (sum < 0) std::abort();
  });
  add("add_into", 12.0 * parameters, 0, [=, &table] { table.f32.add(w, w, grad, parameters); });
  add("mix_noise", 12.0 * parameters, 0, [=, &table] {
    const kernels::NoiseMix mix{0.5f, 0.5f, -1, 1, {1, 2, 3, 4}};
    table.raw.mix_noise(m, w, grad, &mix, 1, parameters);
  });
  return all;
}

}  // namespace

std::vector<Kernel> kernels_of(const Shape& shape, bool half) {
  return half ? list<bf16>(shape) : list<float>(shape);
}

std::vector<Kernel> matmuls_of(const Shape& s, bool half) {
  const DType t = half ? DType::BF16 : DType::F32;
  const int64_t width = s.heads * 64, rows = s.samples * s.tokens;
  std::vector<Kernel> all;
  std::vector<std::shared_ptr<Buffer>> keep;
  const auto add = [&](const char* name, const kernels::MatmulSpec& spec) {
    const kernels::Matmul& matmul = kernels::cpu().matmul_of(t);
    std::vector<std::shared_ptr<Buffer>> mine;
    const int64_t sizes[] = {spec.m * spec.k, spec.k * spec.n, spec.m * spec.n, spec.n};
    float* p[4];
    for (int i = 0; i < 4; ++i)
      p[i] = memory<float>(mine, sizes[i]);  // as bf16, twice as many values as needed
    mine.push_back(std::make_shared<Buffer>(matmul.scratch_bytes(spec) + 64));
    void* scratch = mine.back()->data();
    all.push_back(
        {name, 0, spec.flops(), [&matmul, mine, p0 = p[0], p1 = p[1], p2 = p[2], p3 = p[3], scratch, spec] {
           matmul.run(p2, p0, p1, spec.bias ? p3 : nullptr, spec, 0, matmul.parts(spec), scratch);
         }});
  };
  const auto linear = [&](const char* name, int64_t in, int64_t out) {
    const std::string base = name;
    add((base + " y").c_str(), {rows, out, in, t, t, t, false, true, true, false});
    add((base + " dx").c_str(), {rows, in, out, t, t, t, false, false, false, false});
    add((base + " dw").c_str(), {out, in, rows, t, t, DType::F32, true, false, false, false});
  };
  linear("qkv", width, 3 * width);
  linear("proj", width, width);
  linear("fc1", width, 4 * width);
  linear("fc2", 4 * width, width);
  return all;
}

}  // namespace orch::bench
