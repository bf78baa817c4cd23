#include "fused_gelu.h"

#include <cuda_runtime.h>

#include <cmath>
#include <map>

#include "../../core/error.h"
#include "device.h"
#include "matmul.h"
#include "queue.h"

namespace orch::kernels::cuda {
namespace {

using graph::Epilogue;
using Memory = std::shared_ptr<void>;

/// The largest difference from a product and a pass, relative to the L2 norm. Both round to bf16 (2^-9), the
/// latter also before GELU.
constexpr double kMostDifference = 1e-2;

bool is_default() {
  int ordinal = 0, major = 0;
  check(cudaGetDevice(&ordinal), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal), "cudaDeviceGetAttribute");
  return fused_by_default(major);
}

/// Computes products of given random operands.
class Trial {
 public:
  explicit Trial(const graph::MatmulSpec& s)
      : spec_(s),
        n_(s.m * s.n),
        a_(random_numbers(s.m * s.k, s.a, 1)),
        // Sums of N(0, 1), where GELU is neither 0 nor the identity.
        b_(random_numbers(s.k * s.n, s.b, 2, 1 / std::sqrt(static_cast<float>(s.k)))),
        bias_(random_numbers(s.n, s.bias_type, 3)),
        before_(s.epilogue == Epilogue::GeluBackward ? random_numbers(n_, s.c, 4) : nullptr) {}

  /// C, and what GELU was applied to, where that is a result, too.
  struct Result {
    Memory c, before;
  };
  Result fused() const { return product(spec_); }
  Result separate() const {
    graph::MatmulSpec plain = spec_;
    plain.epilogue = Epilogue::None;
    const Memory sum = product(plain).c, c = device_memory(sizeof(bf16) * n_);
    const auto& k = table().b16;
    if (spec_.epilogue == Epilogue::GeluBackward) {
      k.gelu_backward(numbers(c), numbers(sum), numbers(before_), n_, nullptr);
      return {c, nullptr};
    }
    k.gelu(numbers(c), numbers(sum), n_);
    return {c, sum};
  }
  /// The L2 norm of a - b over that of b.
  double difference(const Memory& a, const Memory& b) const {
    constexpr int64_t kPiece = int64_t{1} << 24;
    const int64_t most = std::min(n_, kPiece);
    const Memory x = device_memory(sizeof(float) * most), y = device_memory(sizeof(float) * most),
                 sums = device_memory(2 * sizeof(double));
    double* const sum = static_cast<double*>(sums.get());
    check(cudaMemsetAsync(sum, 0, 2 * sizeof(double), compute_stream()), "cudaMemsetAsync");
    for (int64_t at = 0; at < n_; at += kPiece) {
      const int64_t n = std::min(kPiece, n_ - at);
      float *const u = static_cast<float*>(x.get()), *const v = static_cast<float*>(y.get());
      table().b16.to_f32(u, numbers(a) + at, n);
      table().b16.to_f32(v, numbers(b) + at, n);
      table().raw.add_squares(sum + 1, v, n);
      table().raw.scale_into(v, -1, n);
      table().f32.add(u, u, v, n);
      table().raw.add_squares(sum, u, n);
    }
    double squares[2];
    download(squares, sum, sizeof squares);
    return std::sqrt(squares[0] / squares[1]);
  }

 private:
  static bf16* numbers(const Memory& m) { return static_cast<bf16*>(m.get()); }
  Result product(const graph::MatmulSpec& s) const {
    const bool keeps = s.epilogue == Epilogue::GeluKeep;
    const Result r{device_memory(sizeof(bf16) * n_), keeps ? device_memory(sizeof(bf16) * n_) : nullptr};
    void* const pointers[] = {a_.get(), b_.get(), bias_.get(), before_.get(), r.c.get(), r.before.get()};
    const graph::Ref inputs[] = {{0}, {1}, s.bias ? graph::Ref{2} : graph::Ref{}, {3}},
                     outputs[] = {{4}, keeps ? graph::Ref{5} : graph::Ref{}};
    make_matmul("a trial of GELU", s)
        ->run({pointers, inputs, outputs, nullptr, nullptr, 0, 1, table(), false});
    return r;
  }

  const graph::MatmulSpec spec_;
  const int64_t n_;
  const Memory a_, b_, bias_, before_;
};

/// Why the library's product with the epilogue, for which it has an algorithm, cannot serve, or "".
std::string problem_of(const graph::MatmulSpec& spec) {
  const Trial trial(spec);
  const auto differs = [&](const Memory& a, const Memory& b, double most) {
    return a && b && !(trial.difference(a, b) <= most);  // NaN differs
  };
  const auto differ = [&](const Trial::Result& a, const Trial::Result& b, double most) {
    return differs(a.c, b.c, most) || differs(a.before, b.before, most);
  };
  const auto first = trial.fused();
  if (differ(trial.fused(), first, 0)) return "its bits differ from run to run";
  if (differ(first, trial.separate(), kMostDifference))
    return "its results differ from those of the own kernel";
  return "";
}

}  // namespace

bool fuses_gelu(const graph::MatmulSpec& spec) {
  const std::string choice = gelu_choice();
  if (spec.a != DType::BF16 || spec.c != DType::BF16 || choice == "separate") return false;
  if (plans_only()) return true;
  // A graph without a backward pass decides as the one with it, which is built first, while there is memory.
  graph::MatmulSpec tried = spec;
  if (tried.epilogue == Epilogue::Gelu) tried.epilogue = Epilogue::GeluKeep;
  if (choice.empty()) {
    const auto line = noted(tried);
    if (line ? *line == "separate" : !is_default()) return false;
  }
  std::string problem = "cuBLASLt has no algorithm";
  if (has_algorithm(spec) && has_algorithm(tried)) {
    static auto& problems = *new std::map<std::string, std::string>;
    const auto [it, fresh] = problems.try_emplace(graph::key_of(tried));
    if (fresh) it->second = problem_of(tried);
    problem = it->second;
  }
  if (choice == "fused" && !problem.empty())
    throw Error("ERR_CUDA", "ORCHESTRATOR_CUDA_GELU=fused: ", graph::key_of(spec), ": ", problem);
  return problem.empty();
}

}  // namespace orch::kernels::cuda
