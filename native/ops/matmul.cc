#include "matmul.h"

#include <dnnl.hpp>
#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "../core/error.h"
#include "../kernels/kernels.h"

namespace orch::ops {
namespace {

/// Whether the processor multiplies whole tiles of bf16 (AMX), which oneDNN makes use of.
bool has_tiles() {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d >> 22 & 1) != 0;
#else
  return false;
#endif
}

/// Whether the kernel of this project serves, which is faster than oneDNN's for processors with vdpbf16ps.
bool own_kernel(const MatmulSpec& s, const kernels::MatmulDims& d) {
  static const bool tiles = has_tiles();
  const auto& own = kernels::cpu().matmul;
  return own.run != nullptr && !tiles && s.a == DType::BF16 && s.b == DType::BF16 && s.c != DType::F16 &&
         (!s.accumulate || d.single) && own.fits(d);
}

using dnnl::memory;

dnnl::engine& cpu_engine() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

memory::data_type type_of(DType t) {
  return t == DType::F32    ? memory::data_type::f32
         : t == DType::BF16 ? memory::data_type::bf16
                            : memory::data_type::f16;
}

memory::desc matrix(int64_t rows, int64_t columns, DType t, bool transposed) {
  return memory::desc({rows, columns}, type_of(t),
                      transposed ? memory::dims{1, rows} : memory::dims{columns, 1});
}

}  // namespace

struct Matmul::Impl {
  memory::desc a, b, c, bias, scratch;
  dnnl::matmul primitive;
  kernels::MatmulDims own;
  bool is_own;
};

Matmul::Matmul(const MatmulSpec& s) : spec_(s), impl_(std::make_unique<Impl>()) {
  impl_->own = {s.m, s.n, s.k, s.transpose_a, s.transpose_b, s.c == DType::F32, s.accumulate};
  impl_->is_own = own_kernel(s, impl_->own);
  if (impl_->is_own) return;
  try {
    impl_->a = matrix(s.m, s.k, s.a, s.transpose_a);
    impl_->b = matrix(s.k, s.n, s.b, s.transpose_b);
    impl_->c = matrix(s.m, s.n, s.c, false);
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);  // the library's own is shared between threads
    if (s.accumulate) {
      dnnl::post_ops post;
      post.append_sum(1.0f);
      attr.set_post_ops(post);
    }
    if (s.bias) impl_->bias = memory::desc({1, s.n}, memory::data_type::f32, memory::format_tag::ab);
#if DNNL_VERSION_MAJOR >= 3
    auto pd =
        s.bias ? dnnl::matmul::primitive_desc(cpu_engine(), impl_->a, impl_->b, impl_->bias, impl_->c, attr)
               : dnnl::matmul::primitive_desc(cpu_engine(), impl_->a, impl_->b, impl_->c, attr);
#else
    auto d = s.bias ? dnnl::matmul::desc(impl_->a, impl_->b, impl_->bias, impl_->c)
                    : dnnl::matmul::desc(impl_->a, impl_->b, impl_->c);
    auto pd = dnnl::matmul::primitive_desc(d, attr, cpu_engine());
#endif
    impl_->scratch = pd.scratchpad_desc();
    impl_->primitive = dnnl::matmul(pd);
  } catch (const dnnl::error& e) {
    throw Error("ERR_ONEDNN", "oneDNN cannot multiply " + std::to_string(s.m) + "x" + std::to_string(s.k) +
                                  " by " + std::to_string(s.k) + "x" + std::to_string(s.n) + " in " +
                                  name_of(s.a) + ": " + e.what());
  }
}
Matmul::~Matmul() = default;

size_t Matmul::scratch_bytes() const {
  return impl_->is_own ? kernels::cpu().matmul.scratch_bytes(impl_->own) : impl_->scratch.get_size();
}

int64_t Matmul::parts() const { return impl_->is_own ? kernels::cpu().matmul.parts(impl_->own) : 1; }
int64_t Matmul::grain() const { return impl_->is_own ? kernels::cpu().matmul.grain(impl_->own) : 1; }

void Matmul::run(const void* a, const void* b, const float* bias, void* c, void* scratch, int64_t from,
                 int64_t to) const {
  if (impl_->is_own) {
    return kernels::cpu().matmul.run(c, static_cast<const bf16*>(a), static_cast<const bf16*>(b), bias,
                                     impl_->own, from, to, scratch);
  }
  thread_local dnnl::stream stream(cpu_engine());
  auto& e = cpu_engine();
  std::unordered_map<int, memory> args{{DNNL_ARG_SRC, memory(impl_->a, e, const_cast<void*>(a))},
                                       {DNNL_ARG_WEIGHTS, memory(impl_->b, e, const_cast<void*>(b))},
                                       {DNNL_ARG_DST, memory(impl_->c, e, c)},
                                       {DNNL_ARG_SCRATCHPAD, memory(impl_->scratch, e, scratch)}};
  if (spec_.bias) args.emplace(DNNL_ARG_BIAS, memory(impl_->bias, e, const_cast<float*>(bias)));
  impl_->primitive.execute(stream, args);
}

const char* onednn_version() {
  static const std::string version = [] {
    const dnnl_version_t* v = dnnl_version();
    return std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
  }();
  return version.c_str();
}

}  // namespace orch::ops
