// Attention by a library where there is one that can be trusted: the check of its plans, and the conversion
// between the rows of the two streams and the joint rows that it uses.
#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <mutex>

#include "../../core/error.h"
#include "attention_cudnn.h"
#include "attention_parts.h"

namespace orch::kernels::cuda {
namespace {

constexpr int kThreads = 256;

/// Copies the joint rows [samples, queries, width] to the streams, or from them into rows that are not const;
/// eight channels per thread.
template <class Joint, class Rows>
__global__ void __launch_bounds__(kThreads)
    copy_rows(Joint* joint, StreamRows<Rows> streams, AttentionDims d, uint32_t n) {
  const uint32_t i = blockIdx.x * kThreads + threadIdx.x;
  if (i >= n) return;
  const uint32_t vectors = static_cast<uint32_t>(d.heads * kHeadDim / 8), row = i / vectors,
                 queries = static_cast<uint32_t>(d.tokens - d.first_query), sample = row / queries;
  Rows* const there =
      streams.at(d, sample, 0, d.first_query + (row - sample * queries)) + (i - row * vectors) * 8;
  Joint* const here = joint + 8 * static_cast<int64_t>(i);
  if constexpr (std::is_const_v<Joint>)
    *reinterpret_cast<uint4*>(there) = *reinterpret_cast<const uint4*>(here);
  else
    *reinterpret_cast<uint4*>(here) = *reinterpret_cast<const uint4*>(there);
}
template <class Joint, class Rows>
void copy_joint(Joint* joint, StreamRows<Rows> streams, const AttentionDims& d) {
  const int64_t n = d.samples * (d.tokens - d.first_query) * d.heads * kHeadDim / 8;
  launch(copy_rows<Joint, Rows>, blocks(n, kThreads), kThreads, 0, joint, streams, d, index32(n));
}

/// Whether the computed rows are exactly those of the second stream, which are contiguous.
bool joint_already(const AttentionDims& d) { return d.first_query == d.split; }
int64_t joint_elements(const AttentionDims& d) {
  return joint_already(d) ? 0
                          : (d.samples * (d.tokens - d.first_query) * d.heads * kHeadDim + 127) / 128 * 128;
}

void run_forward(const LibraryAttention& library, StreamRows<bf16> out, float* lse, const bf16* q,
                 const bf16* k, const bf16* v, const AttentionDims& d) {
  const int64_t n = joint_elements(d);
  bf16* const joint = workspace<bf16>(n + library.workspace_bytes(d, false) / 2 + 1);
  library.forward(n ? joint : out.second, lse, q, k, v, d, joint + n);
  if (n) copy_joint<const bf16>(joint, out, d);
}

void run_backward(const LibraryAttention& library, bf16* dq, bf16* dk, bf16* dv, StreamRows<const bf16> dout,
                  StreamRows<const bf16> out, const float* lse, const bf16* q, const bf16* k, const bf16* v,
                  const AttentionDims& d) {
  const int64_t n = joint_elements(d);
  bf16* const joint = workspace<bf16>(2 * n + library.workspace_bytes(d, true) / 2 + 1);
  if (n) {
    copy_joint(joint, dout, d);
    copy_joint(joint + n, out, d);
  }
  library.backward(dq, dk, dv, n ? joint : dout.second, n ? joint + n : out.second, lse, q, k, v, d,
                   joint + 2 * n);
}

/// An array of random numbers on the device.
class RandomArray {
 public:
  RandomArray(int64_t n, uint64_t id) : n_(n), memory_(random_numbers(n, DType::BF16, id)) {}
  bf16* data() const { return static_cast<bf16*>(memory_.get()); }
  std::vector<bf16> on_host() const {
    std::vector<bf16> x(n_);
    download(x.data(), data(), sizeof(bf16) * n_);
    return x;
  }

 private:
  int64_t n_;
  std::shared_ptr<void> memory_;
};

/// Runs the library's pass twice on random operands, and the own kernels once. Returns what is wrong with its
/// results, or "". An engine that adds atomically should say so in a note, but those of cuDNN 9.24's fused
/// attention do not; what their graph implies is checked here.
std::string check(const LibraryAttention& library, const AttentionDims& d, bool backward) {
  library.workspace_bytes(d, backward);  // throws if there is no plan
  const int64_t n = d.samples * d.heads * d.tokens * kHeadDim, split = d.samples * d.split * d.heads * kHeadDim;
  const RandomArray q(n, 1), k(n, 2), v(n, 3), dout(n, 4), out(n, 5);
  const auto log_sum_exp = device_memory(sizeof(float) * d.samples * d.heads * d.tokens);
  float* const lse = static_cast<float*>(log_sum_exp.get());
  const auto rows = [&](bf16* x) {
    return StreamRows<bf16>{d.first_query >= d.split ? nullptr : x, x + split};
  };
  const auto read = [&](const RandomArray& x) {
    const auto r = rows(x.data());
    return StreamRows<const bf16>{r.first, r.second};
  };
  // Rows that are not computed keep their random numbers.
  std::vector<std::vector<bf16>> results;
  for (const LibraryAttention* by : {static_cast<const LibraryAttention*>(nullptr), &library, &library}) {
    const RandomArray x(n, 6), y(n, 7), z(n, 8);
    if (backward) {
      own_attention(rows(out.data()), lse, nullptr, q.data(), k.data(), v.data(), d);
      if (by)
        run_backward(*by, x.data(), y.data(), z.data(), read(dout), read(out), lse, q.data(), k.data(),
                     v.data(), d);
      else
        own_attention_backward(x.data(), y.data(), z.data(), read(dout), read(out), lse, q.data(), k.data(),
                               v.data(), d);
    } else if (by) {
      run_forward(*by, rows(x.data()), lse, q.data(), k.data(), v.data(), d);
    } else {
      own_attention(rows(x.data()), lse, nullptr, q.data(), k.data(), v.data(), d);
    }
    results.emplace_back();
    for (const RandomArray* array : {&x, &y, &z}) {
      const auto numbers = array->on_host();
      results.back().insert(results.back().end(), numbers.begin(), numbers.end());
    }
    std::vector<bf16> sums(2 * d.samples * d.heads * (d.tokens - d.first_query));
    for (int64_t i = 0; i < d.samples * d.heads && d.first_query < d.tokens; ++i)
      download(&sums[2 * i * (d.tokens - d.first_query)], lse + i * d.tokens + d.first_query,
               sizeof(float) * (d.tokens - d.first_query));
    for (size_t i = 1; i < sums.size(); i += 2)  // the upper half of an fp32 number is its bf16
      results.back().push_back(sums[i]);
  }
  const auto& own = results[0];
  double difference = 0, size = 0;
  for (size_t i = 0; i < own.size(); ++i) {
    const double want = to_float(own[i]), apart = to_float(results[1][i]) - want;
    difference += apart * apart;
    size += want * want;
  }
  constexpr double kMost = 0.02;  // both round to bf16, at other places
  if (!(std::sqrt(difference / size) < kMost)) return "its results differ from those of the own kernels";
  if (library.differing_bits_too) return "";
  const bool same = std::memcmp(results[1].data(), results[2].data(), sizeof(bf16) * own.size()) == 0;
  return same ? "" : "its bits differ from run to run";
}

/// Why the library cannot serve this shape, or "". Each is checked once.
std::string refusal(const LibraryAttention& library, const AttentionDims& d, bool backward) {
  using Key = std::tuple<const LibraryAttention*, std::array<int64_t, 5>, bool>;
  static std::mutex mutex;
  static auto& known = *new std::map<Key, std::string>;
  const std::lock_guard lock(mutex);
  const Key key{&library, {d.samples, d.heads, d.tokens, d.first_query, d.split}, backward};
  if (const auto it = known.find(key); it != known.end()) return it->second;
  std::string problem;
  try {
    problem = check(library, d, backward);
  } catch (const Error& e) {
    if (e.code() != std::string("ERR_CUDA")) throw;
    problem = e.what();
  }
  return known[key] = problem.empty() ? "" : library.name + ": " + problem;
}

/// The library if it serves this shape. It supports whole batches only, and on Hopper it serves only if it is
/// demanded: the own kernels are faster than its plans (bench/results/2026-11-27-cuda-h200.md).
const LibraryAttention* serving(const AttentionDims& d, bool backward) {
  const LibraryAttention* library = d.to - d.from == d.samples * d.heads ? library_attention() : nullptr;
  if (!library || (has_warpgroups() && !library->demanded)) return nullptr;
  return refusal(*library, d, backward).empty() ? library : nullptr;
}

}  // namespace

std::string attention_by(const AttentionDims& d, bool backward) {
  if (const LibraryAttention* library = serving(d, backward)) return library->name;
  if (has_warpgroups()) return kHopperAttention;
  std::string why;
  const LibraryAttention* library = library_attention(&why);
  return "own kernels (" + (library ? refusal(*library, d, backward) : why) + ")";
}

bool attention_by_library(StreamRows<bf16> out, float* lse, const bf16* q, const bf16* k, const bf16* v,
                          const AttentionDims& d) {
  const LibraryAttention* library = serving(d, false);
  if (library) run_forward(*library, out, lse, q, k, v, d);
  return library != nullptr;
}

bool attention_backward_by_library(bf16* dq, bf16* dk, bf16* dv, StreamRows<const bf16> dout,
                                   StreamRows<const bf16> out, const float* lse, const bf16* q, const bf16* k,
                                   const bf16* v, const AttentionDims& d) {
  const LibraryAttention* library = serving(d, true);
  if (library) run_backward(*library, dq, dk, dv, dout, out, lse, q, k, v, d);
  return library != nullptr;
}

}  // namespace orch::kernels::cuda
