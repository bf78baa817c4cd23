// What a device can run: launch limits, checked before every launch, and the kernels that were built; and
// what the environment asks of it.
#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "../../core/error.h"
#include "device.h"

namespace orch::kernels::cuda {

uint32_t index32(int64_t n);

bool count_launch(graph::Device::Launches& counted, const unsigned (&grid)[3], unsigned threads,
                  size_t shared, size_t most_shared) {
  const int64_t blocks = static_cast<int64_t>(grid[0]) * grid[1] * grid[2];
  if (blocks == 0) return false;
  if (grid[0] > 0x7fffffffu || grid[1] > 65535 || grid[2] > 65535 || threads > 1024 || shared > most_shared)
    throw Error("ERR_CUDA", "A launch of " + std::to_string(grid[0]) + "x" + std::to_string(grid[1]) + "x" +
                                std::to_string(grid[2]) + " blocks of " + std::to_string(threads) +
                                " threads with " + std::to_string(shared) +
                                " bytes of shared memory is beyond the device, which allows " +
                                std::to_string(most_shared));
  counted.count += 1;
  counted.most_blocks = std::max(counted.most_blocks, blocks);
  counted.most_shared = std::max(counted.most_shared, shared);
  return true;
}

bool runs_on(const std::string& built, int capability) {
  std::istringstream list(built);
  for (std::string one; list >> one;) {
    const bool ptx = one.ends_with("-ptx");
    const int target = std::stoi(one);
    if (target <= capability && (ptx || target / 10 == capability / 10)) return true;
  }
  return false;
}

std::string choice(const char* variable, std::initializer_list<const char*> values) {
  const char* given = std::getenv(variable);
  const std::string value = given ? given : "";
  if (value.empty()) return value;
  std::string known;
  for (const char* one : values) {
    if (value == one) return value;
    known += (known.empty() ? "" : ", ") + std::string(one);
  }
  throw Error("ERR_CUDA", variable, " is one of ", known, ", not ", value);
}
std::string gelu_choice() { return choice("ORCHESTRATOR_CUDA_GELU", {"fused", "separate"}); }
std::string attention_choice() {
  return choice("ORCHESTRATOR_CUDA_ATTENTION", {"own", "portable", "cudnn", "cudnn-any"});
}
std::string float8_sums_choice() { return choice("ORCHESTRATOR_CUDA_FP8_SUMS", {"fast"}); }

bool built_for_warpgroups(const std::string& built, int capability) {
  return capability == 90 && (built + " ").find("90a ") != std::string::npos;
}

uint32_t index32(int64_t n) {
  if (n < 0 || n > 0xffffffff)
    throw Error("ERR_CUDA", std::to_string(n) + " elements are too many for a kernel");
  return static_cast<uint32_t>(n);
}

}  // namespace orch::kernels::cuda
