// Shared by the kernel tests: the instruction sets to test, random inputs that are exact in the storage type,
// and running a kernel twice on memory filled with NaN.
#pragma once
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <vector>

#include "core/dtype.h"
#include "harness.h"
#include "kernels/cuda/emulated/emulated_device.h"
#include "kernels/kernels.h"
#include "reference.h"

namespace orch::test {

using reference::Vec;

}  // namespace orch::test

#if defined(ORCH_HAS_avx512bf16_on_avx2)
namespace orch::kernels::avx512bf16_on_avx2 {
const Table* table();
}
#endif

namespace orch::test {

/// The tables to test: all that this processor supports, or the one that ORCHESTRATOR_ISA names.
inline std::vector<const kernels::Table*> tables() {
  if (std::getenv("ORCHESTRATOR_ISA") != nullptr) return {&kernels::cpu()};
  std::vector<const kernels::Table*> all;
  for (const char* isa : kernels::cpu_names()) all.push_back(kernels::cpu_named(isa));
#if defined(ORCH_HAS_avx512bf16_on_avx2)
  if (kernels::cpu_named("avx2") != nullptr) all.push_back(kernels::avx512bf16_on_avx2::table());
#endif
  all.push_back(&kernels::cuda::table());  // emulated on the CPU, thread by thread
  return all;
}

/// Calls visit.template operator()<T>(table) for every instruction set and storage type.
template <class Visit>
void for_each_kernel_set(Visit visit) {
  for (const kernels::Table* t : tables()) {
    visit.template operator()<float>(*t);
    visit.template operator()<bf16>(*t);
  }
}

/// The same for the kernels of the residual stream: visit.template operator()<R, T>(table).
template <class Visit>
void for_each_residual_set(Visit visit) {
  for (const kernels::Table* t : tables()) {
    visit.template operator()<float, float>(*t);
    visit.template operator()<bf16, bf16>(*t);
    visit.template operator()<float, bf16>(*t);
  }
}

template <class T>
constexpr bool is_single = sizeof(T) == 4;
/// An error bound for fp32, or for bf16.
template <class T>
double bound(double single, double half) {
  return is_single<T> ? single : half;
}

inline uint64_t next_random(uint64_t& state) {
  state += 0x9E3779B97F4A7C15;
  uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

template <class T>
T narrow(double x) {
  if constexpr (is_single<T>) {
    return static_cast<float>(x);
  } else {
    return to_bf16(static_cast<float>(x));
  }
}

/// Approximately N(mean, deviation^2) (a sum of four uniforms), rounded to T.
template <class T>
std::vector<T> random(int64_t n, uint64_t seed, double deviation = 1, double mean = 0) {
  std::vector<T> x(n);
  uint64_t state = seed * 7919 + 17;
  for (T& e : x) {
    double sum = 0;
    for (int i = 0; i < 4; ++i) sum += static_cast<double>(next_random(state) >> 11) * 0x1p-53 - 0.5;
    e = narrow<T>(mean + deviation * sum * 1.7320508);
  }
  return x;
}

template <class T>
Vec wide(const std::vector<T>& x) {
  Vec y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = to_float(x[i]);
  return y;
}
inline Vec wide(const Vec& x) { return x; }

struct Bytes {
  void* data;
  size_t size;
};
template <class T>
Bytes bytes(std::vector<T>& x) {
  return {x.data(), x.size() * sizeof(T)};
}

/// Runs twice, on outputs (and scratch) whose bytes are all ones (NaN in every type), and compares the bits
/// of the outputs.
template <class Run>
void run_twice(const char* what, Run run, std::initializer_list<Bytes> outputs,
               Bytes scratch = {nullptr, 0}) {
  std::vector<std::vector<char>> first;
  for (int pass = 0; pass < 2; ++pass) {
    for (const Bytes& b : outputs) {
      if (b.size) std::memset(b.data, 0xff, b.size);
    }
    if (scratch.size) std::memset(scratch.data, 0xff, scratch.size);
    run();
    size_t i = 0;
    for (const Bytes& b : outputs) {
      const char* p = static_cast<const char*>(b.data);
      if (pass == 0) {
        first.emplace_back(p, p + b.size);
      } else {
        CHECK(b.size == 0 || std::memcmp(first[i].data(), p, b.size) == 0, what, ": output ", i,
              " differs between two runs");
      }
      ++i;
    }
  }
}

template <class Got, class Want>
double relative(const Got& got, const Want& want) {
  const Vec g = wide(got);
  return relative_error(g, want, static_cast<int64_t>(want.size()));
}

/// Compares an analytic gradient with central differences of loss() for every element of x.
template <class Loss>
void check_differences(const char* what, Vec& x, const Vec& gradient, Loss loss, double bound = 1e-7) {
  Vec numeric(x.size());
  constexpr double h = 1e-5;
  for (size_t i = 0; i < x.size(); ++i) {
    const double keep = x[i];
    x[i] = keep + h;
    const double up = loss();
    x[i] = keep - h;
    numeric[i] = (up - loss()) / (2 * h);
    x[i] = keep;
  }
  CHECK_CLOSE(relative(numeric, gradient), bound, what, ": reference against finite differences");
}
inline double dot(const Vec& a, const Vec& b) {
  double s = 0;
  for (size_t i = 0; i < a.size(); ++i) s += a[i] * b[i];
  return s;
}

}  // namespace orch::test
