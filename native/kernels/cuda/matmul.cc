// Matmuls by cuBLASLt. The library is column-major, our arrays are row-major, so it computes C^T = op(B)^T
// op(A)^T.
//
// The algorithm is the first one in the library's heuristic order, or the one that the file named by
// ORCHESTRATOR_CUDA_ALGORITHMS gives for the shape (lines "key index", as `orch_bench --cuda tune` writes
// them). It is not chosen by timing at run time, because two processes could then choose differently and get
// different bits.
#include "matmul.h"

#include <cublasLt.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>

#include "../../core/error.h"
#include "device.h"
#include "queue.h"

namespace orch::kernels::cuda {
namespace {

constexpr size_t kWorkspace = size_t{64} << 20;
constexpr int kMostAlgorithms = 8;

void require(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw Error("ERR_CUDA", std::string(what) + ": " + cublasLtGetStatusString(status));
}

cublasLtHandle_t handle() {
  static cublasLtHandle_t h = [] {
    cublasLtHandle_t created = nullptr;
    require(cublasLtCreate(&created), "cublasLtCreate");
    return created;
  }();
  return h;
}
void* library_workspace() {
  static void* memory = [] {
    void* p = nullptr;
    check(cudaMalloc(&p, kWorkspace), "cudaMalloc of cuBLASLt's workspace");
    count_held(kWorkspace);
    return p;
  }();
  return memory;
}

cudaDataType_t type_of(DType t) {
  return t == DType::F32 ? CUDA_R_32F : t == DType::BF16 ? CUDA_R_16BF : CUDA_R_16F;
}

/// A product as the library describes it, with its algorithms.
struct Plan {
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
  DType bias = DType::F32;
  std::vector<cublasLtMatmulHeuristicResult_t> algorithms;
  size_t chosen = 0;

  Plan() = default;
  Plan(const Plan&) = delete;
  ~Plan() {
    for (auto layout : {a, b, c})
      if (layout) cublasLtMatrixLayoutDestroy(layout);
    if (operation) cublasLtMatmulDescDestroy(operation);
  }

  template <class V>
  void set(cublasLtMatmulDescAttributes_t attribute, V value) {
    require(cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof value), "cublasLtMatmulDesc");
  }

  /// The library's A is our B; its columns are our rows.
  bool describe(const graph::MatmulSpec& s, DType bias_type) {
    bias = bias_type;
    require(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
    set(CUBLASLT_MATMUL_DESC_TRANSA, s.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, s.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (s.bias) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type_of(bias));
    }
    const auto layout = [](cublasLtMatrixLayout_t& l, DType t, int64_t rows, int64_t columns) {
      require(cublasLtMatrixLayoutCreate(&l, type_of(t), static_cast<uint64_t>(rows),
                                         static_cast<uint64_t>(columns), rows),
              "cublasLtMatrixLayoutCreate");
    };
    if (s.sums) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BGRADB);
      set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type_of(DType::F32));
    }
    s.transpose_b ? layout(a, s.b, s.k, s.n) : layout(a, s.b, s.n, s.k);
    s.transpose_a ? layout(b, s.a, s.m, s.k) : layout(b, s.a, s.k, s.m);
    layout(c, s.c, s.n, s.m);

    cublasLtMatmulPreference_t preference = nullptr;
    require(cublasLtMatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate");
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      require(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value),
              "cublasLtMatmulPreference");
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspace);
    // Split-K sums are added in fp32, by a second kernel.
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
           static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    constexpr uint32_t kAligned = 16;
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, kAligned);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, kAligned);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, kAligned);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, kAligned);
    int found = 0;
    algorithms.resize(kMostAlgorithms);
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle(), operation, a, b, c, c, preference,
                                                                 kMostAlgorithms, algorithms.data(), &found);
    cublasLtMatmulPreferenceDestroy(preference);
    algorithms.resize(status == CUBLAS_STATUS_SUCCESS ? static_cast<size_t>(found) : 0);
    return !algorithms.empty();
  }

  /// vector: the bias, or the output of the sums.
  void run(size_t algorithm, const void* left, const void* right, const void* vector, void* out, float beta) {
    if (vector) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, vector);
    const float one = 1.0f;
    require(cublasLtMatmul(handle(), operation, &one, right, a, left, b, &beta, out, c, out, c,
                           &algorithms[algorithm].algo, library_workspace(), kWorkspace, compute_stream()),
            "cublasLtMatmul");
  }
};

/// Algorithm indices by shape, from the file that ORCHESTRATOR_CUDA_ALGORITHMS names.
size_t tuned(const std::string& key) {
  static const std::map<std::string, size_t> table = [] {
    std::map<std::string, size_t> t;
    if (const char* path = std::getenv("ORCHESTRATOR_CUDA_ALGORITHMS")) {
      std::ifstream file(path);
      if (!file) throw Error("ERR_CUDA", std::string("ORCHESTRATOR_CUDA_ALGORITHMS: cannot read ") + path);
      std::string name;
      size_t index;
      while (file >> name >> index) t[name] = index;
    }
    return t;
  }();
  const auto it = table.find(key);
  return it == table.end() ? 0 : it->second;
}

/// One plan per shape, kept for the life of the process.
Plan& plan_of(const graph::MatmulSpec& s) {
  static std::map<std::string, std::unique_ptr<Plan>> plans;
  const std::string key = graph::key_of(s);
  auto& plan = plans[key];
  if (plan) return *plan;
  auto fresh = std::make_unique<Plan>();
  if (!fresh->describe(s, DType::F32) && s.bias && s.c == DType::BF16) {
    fresh = std::make_unique<Plan>();  // a bf16 product may support only a bf16 bias
    fresh->describe(s, DType::BF16);
  }
  if (fresh->algorithms.empty()) {
    plans.erase(key);
    throw Error("ERR_CUDA", "cuBLASLt has no algorithm for " + key);
  }
  const size_t wanted = tuned(key);
  fresh->chosen = wanted < fresh->algorithms.size() ? wanted : 0;
  plan = std::move(fresh);
  return *plan;
}

}  // namespace

std::string matmul_version() {
  const size_t v = cublasLtGetVersion();
  return std::to_string(v / 10000) + "." + std::to_string(v / 100 % 100) + "." + std::to_string(v % 100);
}

bool sums_with(const graph::MatmulSpec& spec) {
  if (plans_only()) return true;
  try {
    plan_of(spec);
    return true;
  } catch (const Error&) {
    return false;
  }
}

std::unique_ptr<graph::Op> make_matmul(const char* name, const graph::MatmulSpec& spec) {
  Plan* const plan = plans_only() ? nullptr : &plan_of(spec);
  const auto run = [name, spec, plan](const graph::Run& r) {
    for (const void* p : {r.in<void>(0), r.in<void>(1), static_cast<const void*>(r.out<void>(0))})
      if (p == nullptr || reinterpret_cast<uintptr_t>(p) % 16 != 0)
        throw Error("ERR_INTERNAL", std::string(name) + ": an operand is missing or not aligned");
    if (!plan) return;
    const void* bias = spec.bias ? r.in<void>(2) : spec.sums ? r.out<void>(1) : nullptr;
    if (spec.bias && plan->bias == DType::BF16) {
      bf16* const converted = static_cast<bf16*>(workspace_bytes(sizeof(bf16) * spec.n));
      table().b16.from_f32(converted, static_cast<const float*>(bias), spec.n);
      bias = converted;
    }
    plan->run(plan->chosen, r.in<void>(0), r.in<void>(1), bias, r.out<void>(0),
              spec.accumulate ? 1.0f : 0.0f);
  };
  return graph::make_op(name, run, {.flops = spec.flops()});
}

std::vector<double> time_algorithms(const graph::MatmulSpec& s,
                                    const std::function<double(const std::function<void()>&)>& time) {
  if (plans_only()) return {};
  Plan& plan = plan_of(s);
  // Operands are random: zeros would be faster than real values.
  const auto memory = [](int64_t n, DType t, uint64_t id) {
    float* numbers = nullptr;
    check(cudaMalloc(&numbers, sizeof(float) * n), "cudaMalloc");
    table().raw.normal(numbers, {1, 0, 0, id}, n);
    if (t == DType::F32) return static_cast<void*>(numbers);
    void* half = nullptr;
    check(cudaMalloc(&half, sizeof(bf16) * n), "cudaMalloc");
    table().b16.from_f32(static_cast<bf16*>(half), numbers, n);
    synchronize();
    cudaFree(numbers);
    return half;
  };
  void *a = memory(s.m * s.k, s.a, 1), *b = memory(s.k * s.n, s.b, 2), *c = memory(s.m * s.n, s.c, 3),
       *bias = memory(std::max(s.m, s.n), plan.bias, 4);
  std::vector<double> seconds;
  constexpr int kRepeats = 10;
  for (size_t i = 0; i < plan.algorithms.size(); ++i) {
    const auto once = [&] {
      plan.run(i, a, b, s.bias || s.sums ? bias : nullptr, c, s.accumulate ? 1.0f : 0.0f);
    };
    try {
      time(once);
      seconds.push_back(time([&] {
                          for (int r = 0; r < kRepeats; ++r) once();
                        }) /
                        kRepeats);
    } catch (const Error&) {
      seconds.push_back(1e30);
    }
  }
  for (void* p : {a, b, c, bias}) cudaFree(p);
  return seconds;
}

}  // namespace orch::kernels::cuda
