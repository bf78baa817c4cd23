#include "peak.h"

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

#include "../core/error.h"
#include "../core/memory.h"
#include "matmul.h"

namespace orch::ops {

double matmul_peak(DType t, int64_t m, int64_t n, int64_t k, int threads, double seconds) {
  if (m < 1 || n < 1 || k < 1 || threads < 1)
    throw Error("ERR_NATIVE_ARGUMENT", "matmul_peak: sizes must be positive");
  Matmul matmul({m, n, k, t, t, DType::F32, false, false, false, false});
  auto now = [] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  };
  std::vector<double> best(threads, 1e30);
  std::vector<std::thread> all;
  for (int i = 0; i < threads; ++i)
    all.emplace_back([&, i] {
      omp_set_num_threads(1);
      Buffer a(m * k * size_of(t)), b(k * n * size_of(t)), c(m * n * 4), scratch(matmul.scratch_bytes());
      const double end = now() + seconds;
      do {
        const double start = now();
        matmul.run(a.data(), b.data(), nullptr, c.data(), scratch.data());
        best[i] = std::min(best[i], now() - start);
      } while (now() < end);
    });
  for (auto& thread : all) thread.join();
  double sum = 0;
  for (double s : best) sum += matmul.flops() / s;
  return sum;
}

}  // namespace orch::ops
