// The CPU kernels of a training step: plain functions on pointers that know nothing about graphs, models or
// JavaScript.
//
// Every function is single-threaded, allocates nothing, and reduces in an order that depends on its shapes
// alone, so a result has the same bits in every run and on any number of cores. Each function is compiled
// once per instruction set (avx512bf16, avx512, avx2, generic; neonbf16, neon) from the same source; cpu()
// picks the best set the processor has (ORCHESTRATOR_ISA and use_cpu() override it).
//
// Shapes: B samples, N tokens of a stream, h = heads * 64 channels, S tokens of the joint sequence. `T` is
// the storage type of activations, float or bf16. All arithmetic is fp32; matmuls of bf16 operands accumulate
// in fp32. Conditioning vectors (shift, scale, gate) are fp32, one row per sample, and are chunks of a wider
// row: element (b, i) is at p[b * mod_stride + i].
#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "../core/anywhere.h"
#include "../core/dtype.h"
#include "../core/philox.h"
#include "../optim/optimizers.h"

namespace orch::kernels {

constexpr int64_t kHeadDim = 64;

/// Increased whenever a kernel's results change in any bit on any instruction set; checkpoints record it.
/// ("1": matmuls by oneDNN. "2": timesteps, positions, initial weights and the optimizer's bias corrections
/// by the C library.)
constexpr const char* kVersion = "3";

/// A stream of activations [samples * tokens, width], modulated per sample.
struct StreamDims {
  int64_t samples, tokens, width, mod_stride;
};

/// The place of one stream's heads in the joint sequence.
struct HeadDims {
  int64_t samples, tokens, heads;
  int64_t joint_tokens;  ///< S
  int64_t offset;        ///< first joint position of this stream
};

/// Joint attention. q, k, v: [samples, heads, tokens, 64]. Queries before `first_query` are not computed (the
/// text side of the last block is pre-only: its output would be discarded).
struct AttentionDims {
  int64_t samples, heads, tokens, first_query;
  int64_t split;                           ///< tokens of the first stream
  int64_t from = 0, to = samples * heads;  ///< (sample, head) pairs to compute; statistics need all of them
};

/// Outputs of joint attention, or their gradients: joint positions < split are rows of `first` [samples *
/// split, heads * 64], the others of `second` [samples * (tokens - split), heads * 64]. The streams are
/// separate because each is the operand of its own matmuls.
template <class T>
struct StreamRows {
  T *first, *second;  ///< first may be null if its rows are not computed
  __attribute__((always_inline)) ORCH_ANYWHERE T* at(const AttentionDims& d, int64_t sample, int64_t head,
                                                     int64_t position) const {
    const bool second_stream = position >= d.split;
    const int64_t row =
        second_stream ? sample * (d.tokens - d.split) + position - d.split : sample * d.split + position;
    return (second_stream ? second : first) + (row * d.heads + head) * kHeadDim;
  }
};

/// Statistics of the logits s = scale * q.k over the computed query rows of a stream: the largest |s|, and
/// the sum over rows of the entropy (in nats) of softmax(s).
struct StreamStats {
  float max_abs_logit;
  double entropy_sum;
  int64_t rows;
};
/// By the stream of the query: 0 for joint positions < split, 1 for the others. All zero for a stream without
/// computed queries.
struct AttentionStats {
  StreamStats streams[2];
};

/// Latent images [samples, channels, height, width], cut into patches of patch x patch.
struct PatchDims {
  int64_t samples, channels, height, width, patch;
  bool channel_fastest = false;  ///< features of a patch in the order (ph, pw, c), not (c, ph, pw)
};

/// Key and counter of a random draw: Philox with key `seed` and counter (index of the group of four, sample
/// id low, step, stream << 24 | sample id bits 32..55).
struct DrawKey {
  uint64_t seed;
  uint32_t stream;  ///< < 256
  uint32_t step;
  uint64_t sample_id;  ///< < 2^56
};
/// The words of a group of four draws.
__attribute__((always_inline)) ORCH_ANYWHERE void draw_words(uint32_t (&c)[4], const DrawKey& key,
                                                             int64_t group) {
  c[0] = static_cast<uint32_t>(group);
  c[1] = static_cast<uint32_t>(key.sample_id);
  c[2] = key.step;
  c[3] = (key.stream << 24) | (static_cast<uint32_t>(key.sample_id >> 32) & 0xffffffu);
  philox(key.seed, c);
}

/// The random draw of one sample's noise, and the coefficients with which it is mixed.
struct NoiseMix {
  float a, b, p, q;  ///< z = a x0 + b eps; target = p x0 + q eps
  DrawKey key;
};

/// What a product does with its fp32 sums (bias included) before it stores them in C; on devices only.
enum class Epilogue : uint8_t {
  None,
  Gelu,          ///< C = gelu(sum), the tanh approximation
  GeluKeep,      ///< C = gelu(sum), and a second output has the sum, in C's type, for the backward pass
  GeluBackward,  ///< C = sum * gelu'(x), where x [m, n] is a further input of C's type
};

/// C [m, n] = op(A) op(B) (+ bias over n) (+ C). Sizes are at least 1. Operands of 8-bit floats, on devices
/// only, are multiplied by a scale each; k and n must be multiples of 16, A not transposed and B transposed.
struct MatmulSpec {
  int64_t m, n, k;
  DType a, b, c;
  bool transpose_a;              ///< A is stored [k, m]
  bool transpose_b;              ///< B is stored [n, k]
  bool bias;                     ///< [n], of type bias_type
  bool accumulate;               ///< adds the product to C, which must be fp32
  bool sums = false;             ///< also writes the sums of op(A) over k, fp32 [m]; on devices only
  DType bias_type = DType::F32;  ///< another one on devices only
  Epilogue epilogue = Epilogue::None;
  double flops() const { return 2.0 * static_cast<double>(m) * static_cast<double>(n * k); }
};

/// Matrix products of two operands of one type, accumulated in fp32.
struct Matmul {
  size_t (*scratch_bytes)(const MatmulSpec& s);
  /// number of parts into which C can be cut; each is computed by itself, with the same bits as in the whole
  int64_t (*parts)(const MatmulSpec& s);
  /// the smallest number of parts that is efficient to compute at once
  int64_t (*grain)(const MatmulSpec& s);
  /// Computes parts [from, to). bias may be null. scratch: 64-byte aligned, one per thread.
  void (*run)(void* c, const void* a, const void* b, const float* bias, const MatmulSpec& s, int64_t from,
              int64_t to, void* scratch);
};

/// A kernel with a parameter `amax` also finds the largest magnitude of one of its results, if that is bf16:
/// it raises *amax to it (Amax). On devices only; or null.

/// Kernels that read or write the residual stream, which is stored as R; other activations have type T.
template <class R, class T>
struct Residual {
  // --- out = x + gate * y
  void (*gate_residual)(R* out, const R* x, const T* y, const float* gate, const StreamDims& d);
  /// dy = gate * dout; dgate (overwritten) = sum over tokens of dout * y. The gradient of x is dout itself.
  void (*gate_residual_backward)(T* dy, float* dgate, const R* dout, const T* y, const float* gate,
                                 const StreamDims& d);

  // --- adaLN, after a gated residual connection or alone: each row is read and written once
  /// normed = LayerNorm(out) * (1 + scale) + shift, without affine parameters, eps 1e-6; out has the bits of
  /// gate_residual. Without y, out is x, and the pointers out and gate are null. d describes the modulation;
  /// gate_stride is the distance between the gates of two samples. mean, rstd: [B*N] fp32, kept for the
  /// backward pass.
  void (*gate_norm)(R* out, T* normed, float* mean, float* rstd, const R* x, const T* y, const float* gate,
                    int64_t gate_stride, const float* shift, const float* scale, const StreamDims& d,
                    uint32_t* amax);
  /// Inputs: dnormed, and dx_add, the gradient of `out` from its other uses (or null). Outputs: dx, the total
  /// gradient of `out`, which may alias dx_add; the sums over tokens dshift and dscale (overwritten, row
  /// stride mod_stride); with y also dy and dgate, which have the bits of gate_residual_backward on dx.
  void (*gate_norm_backward)(R* dx, const R* dx_add, float* dshift, float* dscale, T* dy, float* dgate,
                             const T* dnormed, const R* out, const float* mean, const float* rstd,
                             const float* scale, const T* y, const float* gate, int64_t gate_stride,
                             const StreamDims& d, uint32_t* amax);

  /// out [B*N, h] = x + position [N, h]
  void (*add_position)(R* out, const T* x, const float* position, int64_t samples, int64_t tokens,
                       int64_t width);
};

template <class T>
struct Typed : Residual<T, T> {
  // --- qkv rows [B*N, 3*h] in the order (3, heads, 64) -> joint q, k, v [B, heads, S, 64]
  /// q and k pass through RMSNorm over the head (eps 1e-6) with weight gamma [64]. If gamma is null there is
  /// no norm and rstd is not written. rstd: [B*N, heads] fp32.
  void (*split_heads)(T* q, T* k, T* v, float* q_rstd, float* k_rstd, const T* qkv, const float* gamma_q,
                      const float* gamma_k, const HeadDims& d);
  /// The inverse: dqkv and the gradients of the gammas (overwritten, [samples, 64]; null if the gammas are).
  /// If dq is null, this stream's queries were not used and their gradient is exactly zero.
  void (*split_heads_backward)(T* dqkv, float* dgamma_q, float* dgamma_k, const T* dq, const T* dk,
                               const T* dv, const T* qkv, const float* q_rstd, const float* k_rstd,
                               const float* gamma_q, const float* gamma_k, const HeadDims& d, uint32_t* amax);

  // --- softmax(scale * q k^T) v, scale = 1/8
  size_t (*attention_scratch_bytes)(const AttentionDims& d);  ///< the maximum of forward and backward
  /// lse: [B, heads, S] fp32, the log-sum-exp of every computed query row. stats: null, or overwritten.
  /// scratch: 64-byte aligned.
  void (*attention)(StreamRows<T> out, float* lse, AttentionStats* stats, const T* q, const T* k, const T* v,
                    const AttentionDims& d, void* scratch);
  /// Rows of dq before first_query are not written.
  void (*attention_backward)(T* dq, T* dk, T* dv, StreamRows<const T> dout, StreamRows<const T> out,
                             const float* lse, const T* q, const T* k, const T* v, const AttentionDims& d,
                             void* scratch);

  // --- elementwise
  void (*gelu)(T* y, const T* x, int64_t n);  ///< the tanh approximation
  void (*gelu_backward)(T* dx, const T* dy, const T* x, int64_t n, uint32_t* amax);
  void (*silu)(T* y, const float* x, int64_t n);
  /// dx = (dx_add ? dx_add : 0) + dy * silu'(x)
  void (*silu_backward)(float* dx, const float* dx_add, const T* dy, const float* x, int64_t n);
  void (*add)(T* out, const T* a, const T* b, int64_t n);  ///< out may be a or b
  void (*from_f32)(T* y, const float* x, int64_t n);       ///< rounds to nearest even
  void (*to_f32)(float* y, const T* x, int64_t n);
  void (*from_f16)(T* y, const f16* x, int64_t n);

  // --- shapes
  /// rows [B * (H/p) * (W/p), C * p * p] from image [B, C, H, W], and the inverse.
  void (*to_patches)(T* rows, const float* image, const PatchDims& d);
  void (*from_patches)(float* image, const T* rows, const PatchDims& d);
  /// db [width] = sum of dy over rows, which are `stride` elements apart; overwritten.
  void (*column_sum)(float* db, const T* dy, int64_t rows, int64_t width, int64_t stride);
  /// out [B, 256]: timestep_waves of every sample.
  void (*timestep_embedding)(T* out, const float* t, int64_t samples);
};

/// out [2 kWaves]: cos(t f_i), then sin(t f_i), with f_i = 10000^(-i / kWaves), rounded to fp32. `t` is 1000
/// times the path's t. All instruction sets share this code.
constexpr int kWaves = 128;
void timestep_waves(float* out, float t);

/// A matrix in an 8-bit floating-point format: element times *inverse is the number. `transposed` (or null)
/// is [width, rows rounded up to a multiple of 16], with zeros at the end of its rows.
struct Quantized {
  uint8_t *values, *transposed;
  float* inverse;
};

/// A tensor's largest magnitude, in the memory of its elements: bits of a float, of which those of NaN are
/// the largest. It is `found`, or it is 0 and has to be found.
struct Amax {
  uint32_t* bits;
  bool found;
};

struct Untyped {
  /// eps ~ N(0, 1) by counter (Box-Muller), mixed with x0; n elements per sample. `mixes`, one per sample, is
  /// in the same memory as x0 (host or device).
  void (*mix_noise)(float* z, float* target, const float* x0, const NoiseMix* mixes, int64_t samples,
                    int64_t n);
  /// out [n] ~ N(0, 1) by counter.
  void (*normal)(float* out, const DrawKey& key, int64_t n);
  /// loss [B] = mean over the sample of (v - target)^2 (unweighted, summed in double); dv = grad_scale[b] * 2
  /// (v - target) / n. dv may be null (evaluation).
  void (*mse)(float* loss, float* dv, const float* v, const float* target, const float* grad_scale,
              int64_t samples, int64_t n);
  void (*scale_into)(float* dst, float factor, int64_t n);
  /// Adds the sum of squares of x (in a fixed order, in double) to `sum`, which is in the same memory as x.
  void (*add_squares)(double* sum, const float* x, int64_t n);
  int64_t (*first_non_finite)(const float* x, int64_t n);  ///< its index, or -1
  /// kDigestLanes numbers for every piece of kDigestPiece elements (digest.h); n is even.
  void (*digest)(uint64_t* lanes, const float* x, int64_t n);
  /// Fletcher's checksum, the same on every instruction set; null on devices. Its sums show each flip of one
  /// or two bits. It is 64 bits mixed from them: random damage does not show in about one case of 2^64.
  uint64_t (*checksum)(const void* bytes, int64_t n);
  /// x [rows, width] in E4M3 or E5M2, with the scale of float8::scale_for; width is a multiple of 16. With
  /// sums (not null) also the sums of x over rows, fp32 [width]. Null in the CPU's table, as the next one.
  void (*quantize)(const Quantized& to, float* sums, const bf16* x, const Amax& amax, int64_t rows,
                   int64_t width, DType format);
  /// gelu(x), rounded to bf16 as by Typed::gelu, in E4M3; amax is that of gelu(x).
  void (*quantize_gelu)(const Quantized& to, const bf16* x, const Amax& amax, int64_t rows, int64_t width);
  optim::UpdateKernel update[optim::All::kCount];               ///< by Optimizer::index
  optim::LoggedUpdateKernel logged_update[optim::All::kCount];  ///< null on devices
};

struct Table {
  const char* isa;  ///< "avx2"
  bool fast_bf16;   ///< bf16 matmuls are faster than fp32 ones (vdpbf16ps, BFDOT)
  Typed<float> f32;
  Typed<bf16> b16;
  Residual<float, bf16> mixed;  ///< an fp32 residual stream with bf16 activations
  Untyped raw;
  Matmul matmul_f32, matmul_b16;  ///< null in a device's table, which uses a library instead
  const Matmul& matmul_of(DType operands) const { return operands == DType::F32 ? matmul_f32 : matmul_b16; }
  template <class T>
  const Typed<T>& typed() const {
    if constexpr (std::is_same_v<T, float>)
      return f32;
    else
      return b16;
  }
  /// Calls f with the kernels of each storage type, and with those of each pair of types. (Inlined, so that
  /// no instruction set's copy can serve another.)
  template <class F>
  __attribute__((always_inline)) void each_type(F f) {
    f(f32);
    f(b16);
  }
  template <class F>
  __attribute__((always_inline)) void each_pair(F f) {
    f(f32);
    f(b16);
    f(mixed);
  }
  template <class R, class T>
  const Residual<R, T>& residual() const {
    if constexpr (std::is_same_v<R, T>)
      return typed<T>();
    else
      return mixed;
  }
};
/// The families of kernels that every table has: family NAME is a source file that fills its entries of the
/// table in fill_NAME(Table&).
#define ORCH_KERNEL_FAMILIES(EACH) \
  EACH(layer_norm)                 \
  EACH(heads) EACH(attention) EACH(elementwise) EACH(patch) EACH(noise) EACH(reduce) EACH(optimizers)
#define ORCH_DECLARE_FAMILY(name) void fill_##name(Table& t);

/// The kernels with which this process computes on its processor: those of the instruction set that
/// ORCHESTRATOR_ISA names, or of the best one, chosen by the first call, until use_cpu() chooses others.
/// Throws Error(ERR_ISA) if the variable names an instruction set that the processor lacks.
const Table& cpu();
/// Lets this process compute with a named instruction set from now on. May be called from any thread,
/// whatever others compute: a call that has taken its kernels ends with them. Throws Error(ERR_ISA) if the
/// processor lacks it, and Error(ERR_INTERNAL) while a CpuUse lives.
void use_cpu(const char* isa);
/// As long as one lives, cpu() stays the same. Whoever keeps kernels, or computes with them for longer than a
/// call, has one.
class CpuUse {
 public:
  CpuUse();
  ~CpuUse();
  CpuUse(const CpuUse&) = delete;
  CpuUse& operator=(const CpuUse&) = delete;
};
/// The names of the instruction sets that this processor has, best first.
std::vector<const char*> cpu_names();
/// The kernels of a named instruction set, or null if the processor lacks it.
const Table* cpu_named(const char* isa);

}  // namespace orch::kernels
