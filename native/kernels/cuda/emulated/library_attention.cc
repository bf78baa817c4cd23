// A library's attention for the emulated device: plain sums in fp32, in the layout of cuDNN's. It serves if
// ORCHESTRATOR_CUDA_ATTENTION=cudnn asks for it, or a test chooses it.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <vector>

#include "../../../core/elementary.h"
#include "../../../core/error.h"
#include "../attention_cudnn.h"
#include "emulated_device.h"

namespace orch::emulate {
Library library = Library::None;
}

namespace orch::kernels::cuda {

// In context.h, which only kernels include.
void submit(std::function<void()> work);

namespace {

using emulate::Library;
constexpr float kScale = 0.125f;

float product(const bf16* a, const bf16* b) {
  float sum = 0;
  for (int64_t c = 0; c < kHeadDim; ++c) sum += to_float(a[c]) * to_float(b[c]);
  return sum;
}

/// Calls f(offset of a head's q, k and v, of its log-sum-exp, of its joint rows) for every sample and head.
template <class F>
void each_head(const AttentionDims& d, F f) {
  for (int64_t s = 0; s < d.samples; ++s)
    for (int64_t h = 0; h < d.heads; ++h) {
      const int64_t at = (s * d.heads + h) * d.tokens;
      f(at * kHeadDim, at, (s * (d.tokens - d.first_query) * d.heads + h) * kHeadDim);
    }
}

void forward_now(bf16* out, float* lse, const bf16* q, const bf16* k, const bf16* v, const AttentionDims& d) {
  each_head(d, [&](int64_t at, int64_t row, int64_t joint) {
    std::vector<float> p(d.tokens);
    for (int64_t i = d.first_query; i < d.tokens; ++i) {
      float most = -INFINITY, sum = 0;
      for (int64_t j = 0; j < d.tokens; ++j) {
        p[j] = kScale * product(q + at + i * kHeadDim, k + at + j * kHeadDim);
        most = std::max(most, p[j]);
      }
      for (float& x : p) sum += x = static_cast<float>(elementary::exp(x - most));
      lse[row + i] = most + static_cast<float>(elementary::log(sum));
      for (int64_t c = 0; c < kHeadDim; ++c) {
        float y = 0;
        for (int64_t j = 0; j < d.tokens; ++j) y += p[j] * to_float(v[at + j * kHeadDim + c]);
        out[joint + (i - d.first_query) * d.heads * kHeadDim + c] = to_bf16(y / sum);
      }
    }
  });
}

void backward_now(bf16* dq, bf16* dk, bf16* dv, const bf16* dout, const bf16* out, const float* lse,
                  const bf16* q, const bf16* k, const bf16* v, const AttentionDims& d) {
  each_head(d, [&](int64_t at, int64_t row, int64_t joint) {
    std::vector<float> sum_k(d.tokens * kHeadDim), sum_v(d.tokens * kHeadDim);
    for (int64_t i = d.first_query; i < d.tokens; ++i) {
      const bf16* const of = dout + joint + (i - d.first_query) * d.heads * kHeadDim;
      const bf16* const qi = q + at + i * kHeadDim;
      const float delta = product(of, out + (of - dout));
      float sum_q[kHeadDim] = {};
      for (int64_t j = 0; j < d.tokens; ++j) {
        const bf16* const kj = k + at + j * kHeadDim;
        const float p = static_cast<float>(elementary::exp(kScale * product(qi, kj) - lse[row + i])),
                    ds = kScale * p * (product(of, v + at + j * kHeadDim) - delta);
        for (int64_t c = 0; c < kHeadDim; ++c) {
          sum_q[c] += ds * to_float(kj[c]);
          sum_k[j * kHeadDim + c] += ds * to_float(qi[c]);
          sum_v[j * kHeadDim + c] += p * to_float(of[c]);
        }
      }
      for (int64_t c = 0; c < kHeadDim; ++c) dq[at + i * kHeadDim + c] = to_bf16(sum_q[c]);
    }
    for (int64_t i = 0; i < d.tokens * kHeadDim; ++i) {
      dk[at + i] = to_bf16(sum_k[i]);
      dv[at + i] = to_bf16(sum_v[i]);
    }
  });
}

/// The fault that the library is to have in its results.
template <Library L>
void spoil(bf16* results) {
  static int calls = 0;
  if (L == Library::Wrong)
    for (int64_t i = 0; i < kHeadDim; ++i) results[i] = to_bf16(100);
  if (L == Library::Unsteady) results[0] = to_bf16(to_float(results[0]) * (++calls % 2 ? 1 : 1.01f));
}

template <Library L>
size_t workspace_bytes(const AttentionDims&, bool backward) {
  if (L == Library::NoPlan) throw Error("ERR_CUDA", "no engine supports this graph");
  return backward ? 1 << 10 : 0;
}
template <Library L>
void forward(bf16* out, float* lse, const bf16* q, const bf16* k, const bf16* v, const AttentionDims& d,
             void*) {
  submit([=] {
    forward_now(out, lse, q, k, v, d);
    spoil<L>(out);
  });
}
template <Library L>
void backward(bf16* dq, bf16* dk, bf16* dv, const bf16* dout, const bf16* out, const float* lse,
              const bf16* q, const bf16* k, const bf16* v, const AttentionDims& d, void*) {
  submit([=] {
    backward_now(dq, dk, dv, dout, out, lse, q, k, v, d);
    spoil<L>(dk);
  });
}
template <Library L>
const LibraryAttention* emulated() {
  static const LibraryAttention library{"an emulated library", false,      L != Library::NotDemanded,
                                        workspace_bytes<L>,    forward<L>, backward<L>};
  return &library;
}

}  // namespace

const LibraryAttention* library_attention(std::string* why) {
  const char* given = std::getenv("ORCHESTRATOR_CUDA_ATTENTION");
  switch (emulate::library) {
    case Library::Right:
      return emulated<Library::Right>();
    case Library::NotDemanded:
      return emulated<Library::NotDemanded>();
    case Library::Wrong:
      return emulated<Library::Wrong>();
    case Library::Unsteady:
      return emulated<Library::Unsteady>();
    case Library::NoPlan:
      return emulated<Library::NoPlan>();
    case Library::None:
      break;
  }
  if (given && std::string(given) == "cudnn") return emulated<Library::Right>();
  if (why) *why = "no library is emulated";
  return nullptr;
}

}  // namespace orch::kernels::cuda
