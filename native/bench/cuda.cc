// orch_bench --cuda ...: ceilings of the GPU, and whole training steps on it.
//   --cuda ceilings          copy bandwidth and a large matmul
//   --cuda profile SHAPE     a slot's operations by kind, each against its ceiling
//   --cuda tune SHAPE FILE   times cuBLASLt's algorithms for the shape's matmuls, and GELU in their epilogue
//                            against a pass of its own; appends the fastest to FILE
//   --cuda quantize          times the passes that make 8-bit floats, for SD3-medium and 8 samples of 512 px
//   --cuda snapshot SHAPE    steps with and without a copy of the state beside them, and the state's digest
//   --cuda steps SHAPE [SLOTS [MICRO_BATCHES]]
//                            for every line "SECONDS" of standard input: trains that long, prints JSON
// SHAPE: depth,pixels,samples[,nothing|norms|mlp|block[,fp8]], such as 24,512,16 or 24,512,16,nothing,fp8
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <map>

#include "bench.h"
#include "core/error.h"
#include "engine/ceilings.h"
#include "engine/engine.h"
#include "kernels/open_cuda.h"

namespace orch::bench {
namespace {

constexpr int64_t kTextTokens = 154;
constexpr double kDatasheetPeak = 989e12;  ///< FLOP/s, dense bf16, H100 and H200 SXM

EngineSpec parse_shape(const char* text) {
  long long depth = 0, pixels = 0, samples = 0;
  char level[16] = "nothing", linear[8] = "";
  if (std::sscanf(text, "%lld,%lld,%lld,%15[a-z],%7s", &depth, &pixels, &samples, level, linear) < 3 ||
      depth < 1 || pixels < 16 || pixels % 16 || samples < 1 || (*linear && std::strcmp(linear, "fp8") != 0))
    throw Error("ERR_NATIVE_ARGUMENT",
                std::string("A shape is depth,pixels,samples[,recompute[,fp8]], not ") + text);
  const std::string l = level;
  const Recompute recompute = l == "norms"   ? Recompute::Norms
                              : l == "mlp"   ? Recompute::Mlp
                              : l == "block" ? Recompute::Block
                                             : Recompute::Nothing;
  EngineSpec spec{{depth, depth, 2, 16, 4096, 2048, 192, true, {}},
                  {samples, pixels / 8, pixels / 8, kTextTokens},
                  DType::BF16,
                  DType::BF16,
                  1,
                  true,
                  false,
                  recompute};
  spec.float8 = *linear != '\0';
  return spec;
}

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

void print_profile(Engine& e, const Ceilings& c) {
  double whole = 0;
  auto rows = e.profile(5);
  std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.seconds > b.seconds; });
  for (const auto& r : rows) whole += r.seconds;
  std::printf("%-36s %6s %9s %6s %10s %8s\n", "operation", "count", "ms", "share", "TFLOP/s", "TB/s");
  for (const auto& r : rows) {
    const double rate = r.flops > 0 ? r.flops / r.seconds : r.bytes / r.seconds;
    std::printf("%-36s %6d %9.3f %5.1f%% %10.1f %8.2f  %3.0f %% of %s\n", r.name.c_str(), r.count,
                r.seconds * 1e3, 100 * r.seconds / whole, r.flops / r.seconds * 1e-12,
                r.bytes / r.seconds * 1e-12, 100 * rate / (r.flops > 0 ? c.matmul : c.copy),
                r.flops > 0 ? "the matmul's" : "the copy's");
  }
  std::printf("%-36s %6s %9.3f (one after the other, with gaps)\n", "all", "", whole * 1e3);
}

/// What a step has: slots, and micro-batches of each.
struct Sizes {
  int64_t slots = 1, micro_batches = 1;
};

/// One training step: slots, norm, AdamW.
void step(Engine& e, const Sizes& of, int64_t number) {
  e.run_random_slots(of.slots, of.micro_batches, false);
  const double norm = e.gradient_norm().norm;
  e.update({number, 1e-6, 0.9, 0.999, 1e-8, 0.01, std::min(1.0, 1.0 / norm), 1});
}

void serve_steps(Engine& e, const Sizes& of) {
  int64_t number = 0;
  for (int i = 0; i < 3; ++i) step(e, of, ++number);
  e.device().synchronize();
  std::printf("{\"ready\": true, \"parameters\": %lld, \"flops\": %.6g, \"bytes\": %zu}\n",
              static_cast<long long>(e.table().count),
              static_cast<double>(of.slots * of.micro_batches) * e.flops(), e.device_bytes());
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    const double limit = std::atof(line.c_str());
    std::vector<double> slots, with_statistics;
    int steps = 0;
    const double start = now();
    do {
      step(e, of, ++number);
      ++steps;
      e.device().synchronize();
    } while (now() - start < limit);
    const double seconds = now() - start;
    for (int i = 0; i < 7; ++i) {
      with_statistics.push_back(e.device().time([&] { e.run_random_slots(1, 1, true); }));
      slots.push_back(e.device().time([&] { e.run_random_slots(1, 1, false); }));
    }
    std::printf(
        "{\"steps\": %d, \"seconds\": %.6f, \"slotSeconds\": %.6f, \"withStatistics\": %.6f, \"bytes\": "
        "%zu}\n",
        steps, seconds, median(slots), median(with_statistics), e.device_bytes());
    std::fflush(stdout);
  }
}

/// Records the matmuls of a graph that is built for a device, and those with an epilogue that it could fuse.
class Noting final : public graph::Backend {
 public:
  explicit Noting(graph::Device& d) : device_(d) {}
  const kernels::Table& kernels() const override { return device_.kernels(); }
  std::unique_ptr<graph::Op> matmul(const char* name, const graph::MatmulSpec& spec) const override {
    auto& row = seen[graph::key_of(spec)];
    row.first = spec;
    row.second += 1;
    return device_.matmul(name, spec);
  }
  DType bias_type(const graph::MatmulSpec& spec) const override { return device_.bias_type(spec); }
  std::string float8_problem() const override { return device_.float8_problem(); }
  bool sums_with(const graph::MatmulSpec& spec) const override { return device_.sums_with(spec); }
  bool fuses(const graph::MatmulSpec& spec) const override {
    auto& row = with_epilogue[graph::key_of(spec)];
    row.first = spec;
    row.second += 1;
    return false;
  }
  mutable std::map<std::string, std::pair<graph::MatmulSpec, int>> seen, with_epilogue;

 private:
  graph::Device& device_;
};

size_t fastest(const std::vector<double>& times) {
  return static_cast<size_t>(std::min_element(times.begin(), times.end()) - times.begin());
}

/// Seconds of this project's own pass that stands for an epilogue.
double seconds_of_pass(graph::Device& device, const graph::MatmulSpec& s) {
  const int64_t n = s.m * s.n;
  const Buffer x = device.allocate(2 * n), y = device.allocate(2 * n);
  device.fill(x.data(), 0x3c, 2 * n);  // about 0.01
  device.fill(y.data(), 0x3c, 2 * n);
  const auto& k = device.kernels().b16;
  const auto pass = [&] {
    if (s.epilogue == graph::Epilogue::GeluBackward)
      k.gelu_backward(y.as<bf16>(), y.as<bf16>(), x.as<bf16>(), n, nullptr);
    else
      k.gelu(y.as<bf16>(), x.as<bf16>(), n);
  };
  std::vector<double> seconds;
  for (int i = 0; i < 11; ++i) seconds.push_back(device.time(pass));
  return median(seconds);
}

/// Times products with an epilogue against a product and a pass. A line "KEY INDEX" fuses them, "KEY
/// separate" does not.
void tune_epilogues(graph::Device& device, const Noting& noting, FILE* file) {
  for (const auto& [name, row] : noting.with_epilogue) {
    const auto& [product, count] = row;
    graph::MatmulSpec plain = product;
    plain.epilogue = graph::Epilogue::None;
    const auto fused = device.matmul_times(product), alone = device.matmul_times(plain);
    const double pass = seconds_of_pass(device, product), separate = alone[fastest(alone)] + pass;
    std::printf("%-52s x%-4d product %.3f ms + pass %.3f ms = %.3f ms, ", name.c_str(), count,
                1e3 * alone[fastest(alone)], 1e3 * pass, 1e3 * separate);
    if (fused.empty()) {
      std::printf("no algorithm fuses them\n");
      continue;
    }
    const size_t best = fastest(fused);
    const bool faster = fused[best] < separate;
    std::printf("fused first %.3f ms, best (%zu) %.3f ms: %s\n", 1e3 * fused[0], best, 1e3 * fused[best],
                faster ? "fused" : "separate");
    if (faster)
      std::fprintf(file, "%s %zu\n", name.c_str(), best);
    else
      std::fprintf(file, "%s separate\n", name.c_str());
  }
}

void tune(graph::Device& device, const EngineSpec& spec, const char* path) {
  FILE* file = std::fopen(path, "a");
  if (!file) throw Error("ERR_NATIVE_ARGUMENT", std::string("Cannot write ") + path);
  double before = 0, after = 0;
  const Noting noting(device);
  build_model(spec.model, ParameterTable(spec.model), spec.shape,
              {spec.compute, spec.residual, true, false, spec.recompute, spec.float8, noting});
  for (const auto& [name, row] : noting.seen) {
    const auto& [product, count] = row;
    const auto times = device.matmul_times(product);
    const size_t best = fastest(times);
    const double flops = 2.0 * static_cast<double>(product.m) * product.n * product.k;
    std::printf("%-44s x%-4d first %7.1f TFLOP/s, best (%zu) %7.1f\n", name.c_str(), count,
                flops / times[0] * 1e-12, best, flops / times[best] * 1e-12);
    before += count * times[0];
    after += count * times[best];
    std::fprintf(file, "%s %zu\n", name.c_str(), best);
  }
  tune_epilogues(device, noting, file);
  std::fclose(file);
  std::printf("all matmuls of a slot: %.3f ms with the first, %.3f ms with the best\n", before * 1e3,
              after * 1e3);
}

/// One kind of quantization; the result is a tensor and its transpose, of one byte per element each.
struct Quantization {
  const char* name;
  int64_t rows, width;
  DType format;
  bool sums, gelu;
};
/// Seconds of one, as one of many in a recording, each on tensors of its own, which are not in a cache.
/// `found`: the largest magnitude is known.
double seconds_of(graph::Device& device, const Quantization& q, bool found) {
  const int64_t n = q.rows * q.width, stride = (q.rows + 15) / 16 * 16;
  const size_t count = std::max<size_t>(2, (size_t{1} << 30) / (4 * n));
  const Buffer x = device.allocate(2 * n * count), values = device.allocate(n * count),
               transposed = device.allocate(stride * q.width * count), words = device.allocate(8 * count),
               sums = device.allocate(sizeof(float) * q.width);
  device.fill(x.data(), 0x3c, x.bytes());  // about 0.01
  const auto work = [&] {
    for (size_t i = 0; i < count; ++i) {
      uint32_t* const amax = words.as<uint32_t>() + i;
      const kernels::Quantized to{values.as<uint8_t>() + n * i,
                                  transposed.as<uint8_t>() + stride * q.width * i,
                                  words.as<float>() + count + i};
      const auto& raw = device.kernels().raw;
      if (q.gelu)
        raw.quantize_gelu(to, x.as<bf16>() + n * i, {amax, found}, q.rows, q.width);
      else
        raw.quantize(to, q.sums ? sums.as<float>() : nullptr, x.as<bf16>() + n * i, {amax, found}, q.rows,
                     q.width, q.format);
    }
  };
  work();
  const auto all = device.record(work);
  std::vector<double> seconds;
  for (int i = 0; i < 9; ++i) seconds.push_back(device.time(all) / static_cast<double>(count));
  return median(seconds);
}
void print_quantizations(graph::Device& device) {
  const double copy = device_ceilings(device, DType::BF16).copy;
  std::printf("copy: %.2f TB/s; bytes: x once or, with its largest magnitude to be found, twice\n",
              1e-12 * copy);
  std::printf("%-16s %12s | %9s %6s %9s | %9s %6s %9s\n", "", "", "found, us", "TB/s", "of a copy", "to find",
              "TB/s", "of a copy");
  constexpr DType x = DType::E4M3, dy = DType::E5M2;
  for (const Quantization& q : {Quantization{"x, h", 8192, 1536, x, false, false},
                                {"gelu(x), 4h", 8192, 6144, x, false, true},
                                {"dy, h", 8192, 1536, dy, true, false},
                                {"dy, 3h", 8192, 4608, dy, true, false},
                                {"dy, 4h", 8192, 6144, dy, true, false},
                                {"text x, h", 1232, 1536, x, false, false},
                                {"text gelu(x), 4h", 1232, 6144, x, false, true},
                                {"text dy, h", 1232, 1536, dy, true, false},
                                {"text dy, 4h", 1232, 6144, dy, true, false},
                                {"weight, h", 1536, 1536, x, false, false},
                                {"weight, 4h", 6144, 1536, x, false, false}}) {
    std::printf("%-16s %6lld x%4lld |", q.name, static_cast<long long>(q.rows),
                static_cast<long long>(q.width));
    for (const bool found : {true, false}) {
      const double seconds = seconds_of(device, q, found),
                   rate = (found ? 4.0 : 6.0) * static_cast<double>(q.rows * q.width) / seconds;
      std::printf(" %9.2f %6.2f %7.0f %% |", 1e6 * seconds, 1e-12 * rate, 100 * rate / copy);
    }
    std::printf("\n");
  }
}

}  // namespace

int cuda_main(int argc, char** argv) {
  try {
    graph::Device& d = kernels::open_cuda(0);
    const std::string what = argc > 0 ? argv[0] : "ceilings";
    const auto about = d.describe();
    if (what != "steps") std::printf("%s, %s\n", about.name.c_str(), about.libraries.c_str());
    if (what == "ceilings") {
      const Ceilings c = device_ceilings(d, DType::BF16);
      std::printf(
          "copy %.2f TB/s (read and written), matmul 8192^3 bf16 %.0f TFLOP/s (%.0f %% of the datasheet's)\n",
          c.copy * 1e-12, c.matmul * 1e-12, 100 * c.matmul / kDatasheetPeak);
      return 0;
    }
    if (what == "quantize") {
      print_quantizations(d);
      return 0;
    }
    if (argc < 2) throw Error("ERR_NATIVE_ARGUMENT", "A shape is missing");
    const EngineSpec spec = parse_shape(argv[1]);
    if (what == "tune" && argc > 2) {
      tune(d, spec, argv[2]);
      return 0;
    }
    if (what == "snapshot") {
      measure_snapshots(d, spec);
      return 0;
    }
    Engine e(spec, d);
    e.random_weights();
    const auto number = [&](int at) { return argc > at ? std::max(1, std::atoi(argv[at])) : 1; };
    if (what == "profile")
      print_profile(e, device_ceilings(d, DType::BF16));
    else if (what == "steps")
      serve_steps(e, {number(2), number(3)});
    else
      throw Error("ERR_NATIVE_ARGUMENT",
                  "ceilings, quantize, profile SHAPE, tune SHAPE FILE, snapshot SHAPE or steps SHAPE [SLOTS "
                  "[MICRO_BATCHES]]");
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}

}  // namespace orch::bench
