#include "ceilings.h"

#include <algorithm>
#include <thread>
#include <vector>

#include "../core/clock.h"
#include "../core/error.h"
#include "../core/memory.h"
#include "../kernels/kernels.h"

namespace orch {
void draw_normal(graph::Device& device, void* to, DType type, int64_t n, uint64_t stream) {
  const kernels::Table& kernels = device.kernels();
  if (type == DType::F32) return kernels.raw.normal(static_cast<float*>(to), {1, 0, 0, stream}, n);
  const Buffer numbers = device.allocate(sizeof(float) * n);
  kernels.raw.normal(numbers.as<float>(), {1, 0, 0, stream}, n);
  kernels.b16.from_f32(static_cast<bf16*>(to), numbers.as<float>(), n);
  device.synchronize();
}

double matmul_peak(DType t, int64_t m, int64_t n, int64_t k, int threads, double seconds) {
  if (m < 1 || n < 1 || k < 1 || threads < 1)
    throw Error("ERR_NATIVE_ARGUMENT", "matmul_peak: sizes must be positive");
  const kernels::MatmulSpec spec{m, n, k, t, t, DType::F32, false, false, false, false};
  const kernels::Matmul& matmul = kernels::cpu().matmul_of(t);
  std::vector<double> median(threads);
  std::vector<std::thread> all;
  for (int i = 0; i < threads; ++i)
    all.emplace_back([&, i] {
      Buffer a(m * k * size_of(t)), b(k * n * size_of(t)), c(m * n * 4), scratch(matmul.scratch_bytes(spec));
      draw_normal(graph::cpu_device(), a.data(), t, m * k, 2 * i);
      draw_normal(graph::cpu_device(), b.data(), t, k * n, 2 * i + 1);
      std::vector<double> times;
      const double end = seconds_now() + seconds;
      do {
        const double start = thread_seconds();
        matmul.run(c.data(), a.data(), b.data(), nullptr, spec, 0, matmul.parts(spec), scratch.data());
        times.push_back(thread_seconds() - start);
      } while (seconds_now() < end);
      std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
      median[i] = times[times.size() / 2];
    });
  for (auto& thread : all) thread.join();
  double sum = 0;
  for (double s : median) sum += spec.flops() / s;
  return sum;
}

Ceilings device_ceilings(graph::Device& device, DType type) {
  // The copies exceed every cache. The product is small on a small device, such as the emulated one.
  const size_t memory = device.describe().memory_bytes, bytes = std::min(size_t{4} << 30, memory / 32);
  const int64_t side = memory >= size_t{16} << 30 ? 8192 : 256;
  const Buffer a = device.allocate(bytes), b = device.allocate(bytes);
  device.fill(a.data(), 0x3c, bytes);
  std::vector<double> copies;
  for (int i = 0; i < 12; ++i) copies.push_back(device.time([&] { device.copy(b.data(), a.data(), bytes); }));
  std::sort(copies.begin(), copies.end());
  const auto times = device.matmul_times({side, side, side, type, type, type, false, true, false, false});
  return {2.0 * static_cast<double>(bytes) / copies[copies.size() / 2],
          2.0 * side * side * side / *std::min_element(times.begin(), times.end())};
}

}  // namespace orch
