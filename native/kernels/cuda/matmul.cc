// Matmuls by cuBLASLt. The library is column-major, our arrays are row-major, so it computes C^T = op(B)^T
// op(A)^T.
//
// The algorithm is the first one in the library's heuristic order, or the one that the file named by
// ORCHESTRATOR_CUDA_ALGORITHMS gives for the shape (lines "key index", or "key separate" for an epilogue that
// is slower than a pass of its own, as `orch_bench --cuda tune` writes them). It is not chosen by timing at
// run time, because two processes could then choose differently and get different bits.
#include "matmul.h"

#include <cublasLt.h>

#include <algorithm>
#include <cmath>
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
  static const cublasLtHandle_t h = [] {
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

/// ORCHESTRATOR_CUDA_FP8_SUMS=fast: the tensor cores of Hopper sum products of 8-bit floats with fewer bits
/// than fp32 has; otherwise partial sums are added in fp32.
bool fast_sums() { return !float8_sums_choice().empty(); }

cudaDataType_t type_of(DType t) {
  switch (t) {
    case DType::F32:
      return CUDA_R_32F;
    case DType::BF16:
      return CUDA_R_16BF;
    case DType::F16:
      return CUDA_R_16F;
    case DType::E4M3:
      return CUDA_R_8F_E4M3;
    case DType::E5M2:
      return CUDA_R_8F_E5M2;
  }
  throw Error("ERR_INTERNAL", "type_of: an unknown type");
}

cublasLtEpilogue_t epilogue_of(const graph::MatmulSpec& s) {
  switch (s.epilogue) {
    case graph::Epilogue::Gelu:
      return s.bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    case graph::Epilogue::GeluKeep:
      return s.bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    case graph::Epilogue::GeluBackward:
      return CUBLASLT_EPILOGUE_DGELU;
    default:
      return s.sums ? CUBLASLT_EPILOGUE_BGRADB : s.bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
  }
}
/// Whether a product has an auxiliary matrix: what GELU is applied to.
bool has_auxiliary(const graph::MatmulSpec& s) {
  return s.epilogue == graph::Epilogue::GeluKeep || s.epilogue == graph::Epilogue::GeluBackward;
}

/// A product as the library describes it, with its algorithms.
struct Plan {
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
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

  /// Pointers to the scales of our A and B.
  void set_scales(const void* left, const void* right) {
    set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, right);
    set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, left);
  }

  /// The library's A is our B; its columns are our rows.
  bool describe(const graph::MatmulSpec& s) {
    require(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
    set(CUBLASLT_MATMUL_DESC_TRANSA, s.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, s.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(s));
    if (s.bias || s.sums)
      set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type_of(s.sums ? DType::F32 : s.bias_type));
    if (has_auxiliary(s)) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, type_of(s.c));
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, s.n);
      // The library takes the alignment that it may assume from an address, which it does not read here.
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, library_workspace());
    }
    if (is_float8(s.a)) {
      set(CUBLASLT_MATMUL_DESC_FAST_ACCUM, static_cast<int8_t>(fast_sums()));
      set_scales(library_workspace(), library_workspace());  // the heuristic looks for them
    }
    const auto layout = [](cublasLtMatrixLayout_t& l, DType t, int64_t rows, int64_t columns) {
      require(cublasLtMatrixLayoutCreate(&l, type_of(t), static_cast<uint64_t>(rows),
                                         static_cast<uint64_t>(columns), rows),
              "cublasLtMatrixLayoutCreate");
    };
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
    std::erase_if(algorithms, [this](const cublasLtMatmulHeuristicResult_t& proposed) {
      cublasLtMatmulHeuristicResult_t checked{};
      return proposed.state != CUBLAS_STATUS_SUCCESS ||
             cublasLtMatmulAlgoCheck(handle(), operation, a, b, c, c, &proposed.algo, &checked) !=
                 CUBLAS_STATUS_SUCCESS ||
             checked.workspaceSize > kWorkspace;
    });
    return !algorithms.empty();
  }

  /// vector: the bias, or the output of the sums. auxiliary: what GELU is applied to.
  void run(size_t algorithm, const void* left, const void* right, const void* vector, void* out, float beta,
           const void* auxiliary = nullptr) {
    if (vector) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, vector);
    if (auxiliary) set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, auxiliary);
    const float one = 1.0f;
    require(cublasLtMatmul(handle(), operation, &one, right, a, left, b, &beta, out, c, out, c,
                           &algorithms[algorithm].algo, library_workspace(), kWorkspace, compute_stream()),
            "cublasLtMatmul");
  }
};

/// What was noted of each shape, in the file that ORCHESTRATOR_CUDA_ALGORITHMS names.
const std::map<std::string, std::string>& notes() {
  static const auto& table = *new std::map<std::string, std::string>([] {
    std::map<std::string, std::string> t;
    if (const char* path = std::getenv("ORCHESTRATOR_CUDA_ALGORITHMS")) {
      std::ifstream file(path);
      if (!file) throw Error("ERR_CUDA", std::string("ORCHESTRATOR_CUDA_ALGORITHMS: cannot read ") + path);
      std::string name, value;
      while (file >> name >> value) t[name] = value;
    }
    return t;
  }());
  return table;
}
std::optional<std::string> noted(const std::string& key) {
  const auto it = notes().find(key);
  return it == notes().end() ? std::nullopt : std::optional(it->second);
}
/// " with algorithms 1f2e3d4c": a digest (FNV-1a) of the notes, on which the bits depend; "" without any.
std::string name_of_notes() {
  if (notes().empty()) return "";
  uint32_t digest = 2166136261u;
  for (const auto& [key, value] : notes())
    for (const char c : key + " " + value + "\n") digest = (digest ^ static_cast<uint8_t>(c)) * 16777619u;
  char text[32];
  std::snprintf(text, sizeof text, " with algorithms %08x", digest);
  return text;
}
/// The algorithm that was noted, or the first one.
size_t tuned(const std::string& key) {
  const std::string number = noted(key).value_or("0");
  return number.find_first_not_of("0123456789") == std::string::npos ? std::stoul(number) : 0;
}

/// One plan per shape, kept for the life of the process; null if there is no algorithm.
Plan* find_plan(const graph::MatmulSpec& s) {
  // Never destroyed: a thread may still compute while the process exits.
  static auto& plans = *new std::map<std::string, std::unique_ptr<Plan>>;
  if (is_float8(s.a) && (s.transpose_a || !s.transpose_b || s.k % 16 != 0 || s.n % 16 != 0)) return nullptr;
  const std::string key = graph::key_of(s);
  const auto [it, fresh] = plans.try_emplace(key);
  if (!fresh) return it->second.get();
  auto plan = std::make_unique<Plan>();
  if (!plan->describe(s)) return nullptr;
  const size_t wanted = tuned(key);
  plan->chosen = wanted < plan->algorithms.size() ? wanted : 0;
  it->second = std::move(plan);
  return it->second.get();
}
Plan& plan_of(const graph::MatmulSpec& s) {
  Plan* const plan = find_plan(s);
  if (!plan) throw Error("ERR_CUDA", "cuBLASLt has no algorithm for " + graph::key_of(s));
  return *plan;
}

/// Random operands of a product: zeros would be faster than real values.
struct Operands {
  explicit Operands(const graph::MatmulSpec& s)
      : scale(device_memory(sizeof(float))),
        a(random(s.m, s.k, s.a, 1)),
        b(random(s.n, s.k, s.b, 2)),
        c(random(s.m, s.n, s.c, 3)),
        vector(random(1, std::max(s.m, s.n), s.sums ? DType::F32 : s.bias_type, 4)),
        auxiliary(has_auxiliary(s) ? random(s.m, s.n, s.c, 5) : nullptr) {}
  std::shared_ptr<void> random(int64_t rows, int64_t width, DType t, uint64_t id) const {
    const int64_t n = rows * width;
    if (!is_float8(t)) return random_numbers(n, t, id);
    const auto half = random_numbers(n, DType::BF16, id);
    const auto word = device_memory(sizeof(uint32_t));
    const Amax amax{static_cast<uint32_t*>(word.get()), false};
    check(cudaMemsetAsync(amax.bits, 0, sizeof(uint32_t), compute_stream()), "cudaMemsetAsync");
    auto bytes = device_memory(n);
    table().raw.quantize({static_cast<uint8_t*>(bytes.get()), nullptr, static_cast<float*>(scale.get())},
                         nullptr, static_cast<const bf16*>(half.get()), amax, rows, width, t);
    synchronize();
    return bytes;
  }
  void run(Plan& plan, const graph::MatmulSpec& s, size_t algorithm) const {
    if (is_float8(s.a)) plan.set_scales(scale.get(), scale.get());
    plan.run(algorithm, a.get(), b.get(), s.bias || s.sums ? vector.get() : nullptr, c.get(),
             s.accumulate ? 1.0f : 0.0f, auxiliary.get());
  }
  const std::shared_ptr<void> scale;  ///< of A and B, if they have one
  const std::shared_ptr<void> a, b, c, vector, auxiliary;
};

/// Whether the plan's sums are those of this project's own kernel, for random operands.
bool sums_are_right(Plan& plan, const graph::MatmulSpec& s) {
  if (!s.transpose_a) return false;  // of the columns of A as it is stored
  const Operands operands(s);
  operands.run(plan, s, plan.chosen);
  const auto expected = device_memory(sizeof(float) * s.m);
  if (s.a == DType::F32)
    table().f32.column_sum(static_cast<float*>(expected.get()), static_cast<const float*>(operands.a.get()),
                           s.k, s.m, s.m);
  else
    table().b16.column_sum(static_cast<float*>(expected.get()), static_cast<const bf16*>(operands.a.get()),
                           s.k, s.m, s.m);
  std::vector<float> want(s.m), got(s.m);
  download(want.data(), expected.get(), sizeof(float) * s.m);
  download(got.data(), operands.vector.get(), sizeof(float) * s.m);
  const double most = 1e-3 * std::sqrt(static_cast<double>(s.k));  // of a sum of k numbers of N(0, 1)
  for (int64_t i = 0; i < s.m; ++i)
    if (!(std::abs(want[i] - got[i]) < most)) return false;
  return true;
}

}  // namespace

std::string matmul_version() {
  const size_t v = cublasLtGetVersion();
  return std::to_string(v / 10000) + "." + std::to_string(v / 100 % 100) + "." + std::to_string(v % 100) +
         name_of_notes() + (fast_sums() ? " (fast sums of fp8)" : "");
}

DType bias_type(graph::MatmulSpec spec) {
  // NVIDIA's table of supported types has the bias in the type of the product.
  spec.bias_type = spec.c;
  if (plans_only() || find_plan(spec)) return spec.bias_type;
  spec.bias_type = spec.c != DType::F32 ? DType::F32 : is_float8(spec.a) ? DType::BF16 : spec.a;
  return spec.bias_type;
}

bool sums_with(const graph::MatmulSpec& spec) {
  if (plans_only()) return true;
  static auto& known = *new std::map<std::string, bool>;
  const auto [it, fresh] = known.try_emplace(graph::key_of(spec));
  Plan* const plan = fresh ? find_plan(spec) : nullptr;
  if (plan) it->second = sums_are_right(*plan, spec);
  return it->second;
}

std::optional<std::string> noted(const graph::MatmulSpec& spec) { return noted(graph::key_of(spec)); }
bool has_algorithm(const graph::MatmulSpec& spec) { return find_plan(spec) != nullptr; }

std::unique_ptr<graph::Op> make_matmul(const char* name, const graph::MatmulSpec& spec) {
  Plan* const plan = plans_only() ? nullptr : &plan_of(spec);
  const auto run = [name, spec, plan](const graph::Run& r) {
    const void* const out = r.out<void>(0);
    const void* const auxiliary = spec.epilogue == graph::Epilogue::GeluKeep       ? r.out<void>(1)
                                  : spec.epilogue == graph::Epilogue::GeluBackward ? r.in<void>(3)
                                                                                   : nullptr;
    for (const void* p : {r.in<void>(0), r.in<void>(1), out, has_auxiliary(spec) ? auxiliary : out})
      if (p == nullptr || reinterpret_cast<uintptr_t>(p) % 16 != 0)
        throw Error("ERR_INTERNAL", std::string(name) + ": an operand is missing or not aligned");
    if (!plan) return;
    if (is_float8(spec.a)) plan->set_scales(r.in<void>(3), r.in<void>(4));
    const auto product = [&](const void* vector) {
      plan->run(plan->chosen, r.in<void>(0), r.in<void>(1), vector, r.out<void>(0),
                spec.accumulate || r.adds ? 1.0f : 0.0f, auxiliary);
    };
    // The library overwrites the sums also where it adds to the product.
    if (spec.sums) return graph::write_gradient(r, r.out<float>(1), spec.m, product);
    product(spec.bias ? r.in<void>(2) : nullptr);
  };
  return graph::make_op(
      name, run,
      {.flops = spec.flops(), .scratch_bytes = spec.sums ? sizeof(float) * static_cast<size_t>(spec.m) : 0});
}

std::vector<double> time_algorithms(const graph::MatmulSpec& s,
                                    const std::function<double(const std::function<void()>&)>& time) {
  if (plans_only() || (s.epilogue != graph::Epilogue::None && !has_algorithm(s))) return {};
  Plan& plan = plan_of(s);
  const Operands operands(s);
  std::vector<double> seconds;
  constexpr int kRepeats = 10;
  for (size_t i = 0; i < plan.algorithms.size(); ++i) {
    const auto once = [&] { operands.run(plan, s, i); };
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
  return seconds;
}

}  // namespace orch::kernels::cuda
