// orch_bench [--seconds S] [--fp32] [PART OF A NAME]...: times every kernel of a training step on one thread,
// relative to a copy of the same number of bytes or to a large matmul, measured in alternation.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "bench.h"
#include "engine/ceilings.h"
#include "kernels/kernels.h"

namespace {

using namespace orch;
using namespace orch::bench;

constexpr Shape kShapes[] = {
    {"demo: 32 x (16 + 8) tokens, hidden 192", 32, 16, 8, 3},
    {"4 x (256 + 77) tokens, hidden 384", 4, 256, 77, 6},
    {"1 x (256 + 154) tokens, hidden 1536", 1, 256, 154, 24},
    {"1 x (1024 + 154) tokens, hidden 384", 1, 1024, 154, 6},
};

/// Bytes per second of a copy that reads and writes `bytes` in total.
double copy_bandwidth(double bytes, double seconds) {
  const size_t half = static_cast<size_t>(bytes / 2);
  Buffer from(half), to(half);
  std::memset(from.data(), 1, half);
  const double t = best_time(seconds, [&] {
    std::memcpy(to.data(), from.data(), half);
    asm volatile("" : : "r"(to.data()) : "memory");
  });
  return 2.0 * static_cast<double>(half) / t;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "--cuda") == 0) return cuda_main(argc - 2, argv + 2);
  double seconds = 0.1;
  bool half = kernels::cpu().fast_bf16;
  std::vector<std::string> parts;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) {
      seconds = std::atof(argv[++i]);
    } else if (std::strcmp(argv[i], "--fp32") == 0) {
      half = false;
    } else {
      parts.push_back(argv[i]);
    }
  }
  const DType type = half ? DType::BF16 : DType::F32;
  const auto probe = [&] { return matmul_peak(type, 1024, 1024, 1024, 1, seconds); };
  std::printf("instruction set %s, storage %s, one thread; matmul peak (1024^3) %.0f GF/s\n",
              kernels::cpu().isa, half ? "bf16" : "fp32", probe() * 1e-9);
  for (const Shape& shape : kShapes) {
    bool titled = false;
    auto all = kernels_of(shape, half);
    for (auto& m : matmuls_of(shape, half)) all.push_back(std::move(m));
    for (const Kernel& k : all) {
      bool wanted = parts.empty();
      for (const auto& part : parts) wanted |= (k.name + " " + shape.name).find(part) != std::string::npos;
      if (!wanted) continue;
      if (!titled) std::printf("\n%s\n", shape.name);
      titled = true;
      // Alternating measurements (A, B, A, B), because the machine's clock may change.
      double time = 1e30, limit = 0;
      for (int round = 0; round < 3; ++round) {
        limit = std::max(limit, k.flops > 0 ? probe() : copy_bandwidth(k.bytes, seconds / 3));
        time = std::min(time, best_time(seconds / 3, k.run));
      }
      const double rate = (k.flops > 0 ? k.flops : k.bytes) / time;
      std::printf("  %-30s %10.1f us  %8.1f %s  %3.0f %% of %s\n", k.name.c_str(), time * 1e6, rate * 1e-9,
                  k.flops > 0 ? "GF/s" : "GB/s", 100 * rate / limit, k.flops > 0 ? "matmul peak" : "copy");
      std::fflush(stdout);
    }
  }
  return 0;
}
