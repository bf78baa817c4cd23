// 8-bit floats: the conversion of every bf16 number, quantized tensors, products, and training, each against
// a plain definition.
#include <array>
#include <random>
#include <tuple>

#include "core/float8.h"
#include "devices.h"
#include "driver.h"
#include "engine/engine.h"
#include "graph/executor.h"
#include "ops/ops.h"
#include "training_set.h"

namespace orch::test {
namespace {

/// A format by its definition: sign, exponent, mantissa.
struct Format {
  const char* name;
  DType type;
  uint8_t (*from_float)(float);
  float (*to_float)(uint8_t);
  std::array<double, 256> values;  ///< by code
  double most = 0;                 ///< the largest finite number

  Format(const char* name_, DType type_, int exponent_bits, int bias, bool infinities, uint8_t (*from)(float),
         float (*to)(uint8_t))
      : name(name_), type(type_), from_float(from), to_float(to) {
    const int mantissa_bits = 7 - exponent_bits, top = (1 << exponent_bits) - 1,
              full = (1 << mantissa_bits) - 1;
    for (int code = 0; code < 256; ++code) {
      const int exponent = code >> mantissa_bits & top, mantissa = code & full;
      double x = exponent == 0 ? std::ldexp(mantissa, 1 - bias - mantissa_bits)
                               : std::ldexp(mantissa + full + 1, exponent - bias - mantissa_bits);
      if (exponent == top && (infinities || mantissa == full))
        x = infinities && mantissa == 0 ? INFINITY : NAN;
      values[code] = code & 0x80 ? -x : x;
      if (std::isfinite(x)) most = std::max(most, x);
    }
  }
  /// The nearest finite number's code; of two, the even one.
  uint8_t nearest(double x) const {
    if (std::isnan(x)) return 0x7f;
    const double magnitude = std::min(std::abs(x), most);
    int best = 0;
    for (int code = 0; code < 128; ++code) {
      const double now = std::abs(values[code] - magnitude), before = std::abs(values[best] - magnitude);
      if (now < before || (now == before && code % 2 == 0)) best = code;
    }
    return static_cast<uint8_t>(best | (std::signbit(x) ? 0x80 : 0));
  }
  /// The largest power of two that brings `amax` to no more than `most`.
  double scale(double amax) const {
    double s = std::ldexp(1.0, 126);
    while (amax * s > most) s /= 2;
    return s;
  }
};
const Format kFormats[] = {
    {"E4M3", DType::E4M3, 4, 7, false, float8::from_float<E4M3>, float8::to_float<E4M3>},
    {"E5M2", DType::E5M2, 5, 15, true, float8::from_float<E5M2>, float8::to_float<E5M2>},
};
const Format& format_of(DType t) { return kFormats[t == DType::E5M2]; }

double amax_of(const std::vector<float>& x) {
  double most = 0;
  for (float e : x) most = std::max(most, std::abs(static_cast<double>(e)));
  return most;
}

TEST("float8: every bf16 number is rounded by the definition of the format, and every code read") {
  for (const Format& f : kFormats) {
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
      const float x = to_float(bf16{static_cast<uint16_t>(bits)});
      CHECK(f.from_float(x) == f.nearest(x), f.name, ": ", x);
    }
    for (int code = 0; code < 256; ++code) {
      const double want = f.values[code], got = f.to_float(static_cast<uint8_t>(code));
      CHECK(std::isnan(want) ? std::isnan(got) : got == want, f.name, ": ", code);
    }
  }
  CHECK(kFormats[0].most == 448 && kFormats[1].most == 57344);
}

struct Tensor {
  std::vector<uint8_t> values, transposed;
  float inverse;
  std::vector<float> sums;
};
Tensor quantize(graph::Device& device, const std::vector<bf16>& x, int64_t rows, int64_t width, DType to) {
  Memory memory(device);
  const int64_t stride = (rows + 15) / 16 * 16;
  const kernels::Quantized q{memory.put(std::vector<uint8_t>(rows * width, 0xff)),
                             memory.put(std::vector<uint8_t>(stride * width, 0xff)),
                             memory.put(std::vector<float>{NAN})};
  float* const sums = memory.put(std::vector<float>(width, NAN));
  device.kernels().raw.quantize(q, sums, memory.put(x), {memory.put(std::vector<uint32_t>{0}), false}, rows,
                                width, to);
  return {memory.get<uint8_t>(q.values, rows * width), memory.get<uint8_t>(q.transposed, stride * width),
          memory.get<float>(q.inverse, 1)[0], memory.get<float>(sums, width)};
}

std::vector<float> normal(int64_t n, uint32_t seed, float deviation) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> x(n);
  for (float& e : x) e = to_float(to_bf16(normal(random)));
  return x;
}

/// Compares a tensor that a device quantized with the definition, in every byte.
void check_quantized(graph::Device& device, const Format& f, const std::vector<float>& x, int64_t rows,
                     int64_t width, const std::string& at) {
  const Tensor got = quantize(device, rounded(x), rows, width, f.type);
  const double scale = f.scale(amax_of(x));
  const int64_t stride = (rows + 15) / 16 * 16;
  CHECK(got.inverse == 1 / scale, at, ": the scale is ", got.inverse, ", not ", 1 / scale);
  int64_t wrong = 0, wrong_transposed = 0;
  for (int64_t r = 0; r < stride; ++r)
    for (int64_t c = 0; c < width; ++c) {
      uint8_t want = 0;
      if (r < rows) {
        const float e = x[r * width + c];
        want = f.nearest(e * scale);
        wrong += got.values[r * width + c] != want;
      }
      wrong_transposed += got.transposed[c * stride + r] != want;
    }
  CHECK(wrong == 0 && wrong_transposed == 0, at, ": ", wrong, " elements and ", wrong_transposed,
        " transposed are wrong");
  std::vector<double> sums(width);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < width; ++c) sums[c] += x[r * width + c];
  double most = 0;
  for (int64_t c = 0; c < width; ++c)
    most = std::max(most, std::abs(sums[c] - static_cast<double>(got.sums[c])));
  CHECK_CLOSE(most, 1e-5 * amax_of(x) * static_cast<double>(rows), at, ", sums over rows");
}

TEST("device: quantized tensors have the bytes of the definition") {
  for (const TestedDevice& d : devices())
    for (const Format& f : kFormats) {
      // Every bf16 number that the format covers; the scale is 1.
      std::vector<float> all;
      for (uint32_t bits = 0; bits < 0x10000; ++bits) {
        const float x = to_float(bf16{static_cast<uint16_t>(bits)});
        if (std::abs(x) <= f.most) all.push_back(x);
      }
      all.resize((all.size() + 63) / 64 * 64);
      check_quantized(d.device, f, all, static_cast<int64_t>(all.size()) / 64, 64,
                      text(d.name, ", ", f.name, ", all"));
      // Other scales, and shapes that are not whole tiles.
      int shape = 0;
      for (auto [rows, width] :
           {std::pair<int64_t, int64_t>{1, 16}, {7, 64}, {16, 48}, {130, 80}, {256, 192}}) {
        const float deviation = std::ldexp(1.0f, 30 * (shape - 2));
        check_quantized(d.device, f, normal(rows * width, 5, deviation), rows, width,
                        text(d.name, ", ", f.name, ", ", rows, "x", width));
        ++shape;
      }
      check_quantized(d.device, f, std::vector<float>(160), 10, 16, text(d.name, ", ", f.name, ", zeros"));
      auto tiny = std::vector<float>(160);
      tiny[7] = 1e-40f;  // a subnormal number of bf16
      tiny = widened(rounded(tiny));
      check_quantized(d.device, f, tiny, 10, 16, text(d.name, ", ", f.name, ", subnormal"));
      for (float bad : {INFINITY, -INFINITY, NAN}) {
        auto x = normal(160, 6, 1);
        x[77] = bad;
        CHECK(std::isnan(quantize(d.device, rounded(x), 10, 16, f.type).inverse), d.name, ", ", f.name, ": ",
              bad, " is lost");
      }
    }
}

/// What a tensor is after quantization, in fp64.
std::vector<double> scaled_back(const std::vector<float>& x, DType type) {
  const Format& f = format_of(type);
  const double scale = f.scale(amax_of(x));
  std::vector<double> y;
  for (float e : x) y.push_back(f.values[f.nearest(e * scale)] / scale);
  return y;
}

/// A layer with random operands, and its results; `adds`: those of a second run, which adds its gradients.
struct LayerRun {
  std::vector<float> x, dy, weights;  ///< exact in bf16; the weights [out, in], then the bias
  std::vector<float> y, dx, gradient, added;
};
LayerRun run_layer(graph::Device& device, int64_t rows, int64_t in, int64_t out, bool gelu) {
  graph::Graph g(device);
  const graph::Ref x = g.input("x", DType::BF16, {rows, in}, 0, true);
  const ops::Linear w{g.parameter("w", DType::BF16, {out, in}, 0),
                      g.parameter("b", DType::F32, {out}, out * in)};
  const graph::Ref y = gelu ? ops::gelu_linear_float8(g, x, w, true, 0) : ops::linear_float8(g, x, w, true);
  g[y].keep = true;
  g.reverse().set(y, g.input("dy", DType::BF16, {rows, out}, 1));
  g.differentiate();
  const graph::Ref dx = g.reverse().of(x);
  g[dx].keep = true;
  g.plan();
  LayerRun l{normal(rows * in, 1, 1),
             normal(rows * out, 2, 1e-6f),
             normal(out * in + out, 3, 0.05f),
             {},
             {},
             {},
             {}};
  Memory memory(device);
  graph::Executor e(g, 1, device);
  e.bind_input(0, memory.put(rounded(l.x)));
  e.bind_input(1, memory.put(rounded(l.dy)));
  float* const gradient = memory.put(std::vector<float>(l.weights.size(), NAN));
  const auto run = [&](bool adds) {
    e.bind_flat(memory.put(l.weights), memory.put(rounded(l.weights)), gradient, adds);
    e.run();
    return memory.get<float>(gradient, static_cast<int64_t>(l.weights.size()));
  };
  l.gradient = run(false);
  l.added = run(true);
  l.y = widened(memory.get<bf16>(e.data(y), rows * out));
  l.dx = widened(memory.get<bf16>(e.data(dx), rows * in));
  return l;
}

/// gelu(x) as the device's own kernel computes it, and its derivative.
std::vector<float> gelu_of(graph::Device& device, const std::vector<float>& x) {
  Memory memory(device);
  bf16* const y = memory.put(rounded(x));
  device.kernels().b16.gelu(y, memory.put(rounded(x)), static_cast<int64_t>(x.size()));
  return widened(memory.get<bf16>(y, static_cast<int64_t>(x.size())));
}
double gelu_slope(double x) {
  const double a = std::sqrt(2 / M_PI), t = std::tanh(a * (x + 0.044715 * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * a * (1 + 3 * 0.044715 * x * x);
}

TEST("device: a linear layer of 8-bit floats and its gradients are the products of the rounded operands") {
  for (const TestedDevice& d : devices())
    for (auto [rows, in, out, gelu] : {std::tuple<int64_t, int64_t, int64_t, bool>{21, 64, 48, false},
                                       {154, 128, 80, true},
                                       {d.large ? 2464 : 160, 64, 64, false}}) {
      const std::string at = text(d.name, ", ", rows, "x", in, "x", out, gelu ? ", gelu" : "");
      const LayerRun got = run_layer(d.device, rows, in, out, gelu);
      const auto x = gelu ? gelu_of(d.device, got.x) : got.x;
      const auto xq = scaled_back(x, DType::E4M3), dyq = scaled_back(got.dy, DType::E5M2),
                 wq = scaled_back({got.weights.begin(), got.weights.begin() + out * in}, DType::E4M3);
      std::vector<double> y(rows * out), dx(rows * in), dw(out * in), db(out);
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t o = 0; o < out; ++o) {
          const double dye = dyq[r * out + o];
          y[r * out + o] = got.weights[out * in + o];
          for (int64_t i = 0; i < in; ++i) {
            y[r * out + o] += xq[r * in + i] * wq[o * in + i];
            dx[r * in + i] += dye * wq[o * in + i];
            dw[o * in + i] += dye * xq[r * in + i];
          }
          db[o] += got.dy[r * out + o];
        }
      for (int64_t i = 0; gelu && i < rows * in; ++i) dx[i] *= gelu_slope(got.x[i]);
      const auto close = [&](const auto& a, const std::vector<double>& want, double bound, const char* what) {
        CHECK_CLOSE(relative_error(a, want, static_cast<int64_t>(want.size())), bound, at, ", ", what);
      };
      // y and dx are rounded to bf16, dx before GELU twice. Tensor cores keep fewer bits of a sum than fp32.
      close(got.y, y, 3e-3, "y");
      close(got.dx, dx, gelu ? 5e-3 : 3e-3, "dx");
      close(got.gradient, dw, d.real ? 1e-3 : 1e-6, "dW");
      close(std::vector<float>(got.gradient.begin() + out * in, got.gradient.end()), db, 1e-5, "db");
      for (size_t i = 0; i < got.added.size(); ++i)
        CHECK(got.added[i] == 2 * got.gradient[i], at, ": the second micro-batch is not added");
      // The operands are far from those that were not rounded.
      CHECK(relative_error(xq, x, rows * in) > 0.01 && relative_error(xq, x, rows * in) < 0.04, at);
      CHECK(relative_error(dyq, got.dy, rows * out) > 0.02 && relative_error(dyq, got.dy, rows * out) < 0.08,
            at);
    }
}

TEST("device: GELU within the quantization has the bytes of GELU before it") {
  // A number at the end is seen first, and GELU is computed only where it may exceed what was found before.
  constexpr float kNone = 0.5f;
  for (const TestedDevice& d : devices())
    for (const float special : {kNone, 900.0f, -0.75f, -90.0f, -3e4f, INFINITY, -INFINITY, NAN, -NAN})
      for (const float deviation : {0.05f, 2.0f}) {
        const int64_t rows = d.large && special == kNone ? 2464 : 150, width = rows > 150 ? 6144 : 80;
        auto x = normal(rows * width, 4, deviation);
        x[7] = special;
        const std::string at = text(d.name, ", ", rows, ", ", special, ", ", deviation);
        const Tensor want = quantize(d.device, rounded(gelu_of(d.device, x)), rows, width, DType::E4M3);
        Memory memory(d.device);
        const int64_t stride = (rows + 15) / 16 * 16;
        const kernels::Quantized q{memory.put(std::vector<uint8_t>(rows * width)),
                                   memory.put(std::vector<uint8_t>(stride * width)),
                                   memory.put(std::vector<float>(1))};
        d.device.kernels().raw.quantize_gelu(q, memory.put(rounded(x)),
                                             {memory.put(std::vector<uint32_t>{0}), false}, rows, width);
        const float inverse = memory.get<float>(q.inverse, 1)[0];
        CHECK(std::isnan(want.inverse) ? std::isnan(inverse) : inverse == want.inverse, at, ": ", inverse);
        CHECK(memory.get<uint8_t>(q.values, rows * width) == want.values, at);
        CHECK(memory.get<uint8_t>(q.transposed, stride * width) == want.transposed, at);
      }
}

struct Series {
  std::vector<float> losses, weights, predicted;
};
Series train(const EngineSpec& spec, graph::Device& device, const TrainingSet& set, int64_t steps) {
  Engine e(spec, device);
  e.attach(set.data, kText);
  return on_driver(e, [&] {
    Series s;
    random_start(e);
    for (int64_t step = 1; step <= steps; ++step) {
      AccumulateRequest r{{}, 2, 1.0f / 4, 99, static_cast<uint32_t>(step), false};
      for (int64_t slot = 0; slot < 2; ++slot) r.slots.push_back({slot, batch(step + 2 * slot)});
      for (const auto& slot : e.accumulate(r, [](int) {}).losses)
        s.losses.insert(s.losses.end(), slot.begin(), slot.end());
      e.update({step, 1e-3, 0.9, 0.99, 1e-8, 0.01, std::min(1.0, 1.0 / e.gradient_norm().norm), 0.9});
    }
    const float* w = e.state(State::Master);
    s.weights.assign(w, w + e.table().length);
    s.predicted = e.evaluate(batch(5), State::Master, 99, 50);
    return s;
  });
}

TEST("device: fp8 training is close to bf16, and has the same bits again, whatever is recomputed") {
  const TrainingSet set(4 * 8 * 6);
  EngineSpec spec{{2, 2, 2, 4, 48, 32, 8, true, {0}}, {2, 8, 6, 5}, DType::BF16, DType::BF16, 1, true, true};
  for (const TestedDevice& d : devices()) {
    const Series half = train(spec, d.device, set, 2);
    spec.float8 = true;
    const Series got = train(spec, d.device, set, 2);
    const double error = relative_error(got.losses, half.losses, static_cast<int64_t>(half.losses.size()));
    CHECK(error > 0, d.name, ": no layer is in fp8");
    if (std::getenv("ORCHESTRATOR_TEST_VERBOSE"))
      std::printf("  %s: losses differ from those in bf16 by %.2e\n", d.name, error);
    CHECK_CLOSE(error, 0.02, d.name, ", losses");
    CHECK_CLOSE(relative_error(got.predicted, half.predicted, static_cast<int64_t>(half.predicted.size())),
                0.02, d.name, ", validation");
    CHECK_CLOSE(relative_error(got.weights, half.weights, static_cast<int64_t>(half.weights.size())), 0.05,
                d.name, ", weights");
    for (Recompute level : {Recompute::Norms, Recompute::Mlp, Recompute::Block}) {
      spec.recompute = level;
      const Series again = train(spec, d.device, set, 2);
      CHECK(again.losses == got.losses && again.weights == got.weights && again.predicted == got.predicted,
            d.name, ": recomputation at level ", static_cast<int>(level), " changes bits");
    }
    spec.recompute = Recompute::Nothing;
    spec.float8 = false;
  }
}

TEST("device: fp8 is refused where it cannot be computed") {
  EngineSpec spec{{1, 1, 2, 4, 48, 32, 8, true, {}}, {1, 8, 6, 5}, DType::BF16, DType::BF16, 1, true, true};
  spec.float8 = true;
  const auto why = [](const EngineSpec& s, graph::Device& device) -> std::string {
    try {
      Engine e(s, device);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  CHECK(why(spec, graph::cpu_device()).find("the CPU has no matmuls") != std::string::npos);
  spec.compute = spec.residual = DType::F32;
  for (const TestedDevice& d : devices())
    CHECK(why(spec, d.device).find("have to be bf16") != std::string::npos, d.name);
}

}  // namespace
}  // namespace orch::test
