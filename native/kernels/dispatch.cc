// Chooses the kernels for the processor that the program finds itself on.
#include <cstdlib>
#include <string>

#include "../core/error.h"
#include "kernels.h"

namespace orch::kernels {

namespace generic {
const Table* table();
}
#ifdef ORCH_HAS_avx2
namespace avx2 {
const Table* table();
}
namespace avx512 {
const Table* table();
}
namespace avx512bf16 {
const Table* table();
}
#endif

namespace {

constexpr const char* kNames[] = {"avx512bf16", "avx512", "avx2", "generic"};  // best first

const Table& choose() {
  const char* wanted = std::getenv("ORCHESTRATOR_ISA");
  if (wanted != nullptr && *wanted != '\0') {
    if (const Table* t = cpu_named(wanted)) return *t;
    std::string have;
    for (const char* name : kNames) {
      if (cpu_named(name) != nullptr) have += (have.empty() ? "" : ", ") + std::string(name);
    }
    throw Error("ERR_ISA",
                std::string("ORCHESTRATOR_ISA is \"") + wanted + "\", but this processor has " + have);
  }
  for (const char* name : kNames) {
    if (const Table* t = cpu_named(name)) return *t;
  }
  return *generic::table();
}

}  // namespace

const Table* cpu_named(const char* isa) {
  const std::string name = isa;
  if (name == "generic") return generic::table();
#ifdef ORCH_HAS_avx2
  __builtin_cpu_init();
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                  __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  if (name == "avx2" && v3) return avx2::table();
  if (name == "avx512" && v4) return avx512::table();
  if (name == "avx512bf16" && v4 && __builtin_cpu_supports("avx512bf16") &&
      __builtin_cpu_supports("avx512vnni")) {
    return avx512bf16::table();
  }
#endif
  return nullptr;
}

const Table& cpu() {
  static const Table& chosen = choose();
  return chosen;
}

}  // namespace orch::kernels
