// Chooses the kernels for the processor at run time.
#include <cstdlib>
#include <string>

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include "../core/error.h"
#include "kernels.h"

namespace orch::kernels {

#define ORCH_DECLARE(isa) \
  namespace isa {         \
  const Table* table();   \
  }
#if defined(__x86_64__)
ORCH_DECLARE(generic)
ORCH_DECLARE(avx2)
ORCH_DECLARE(avx512)
ORCH_DECLARE(avx512bf16)
#elif defined(__aarch64__)
ORCH_DECLARE(neon)
ORCH_DECLARE(neonbf16)
#else
ORCH_DECLARE(generic)
#endif
#undef ORCH_DECLARE

namespace {

struct InstructionSet {
  const char* name;
  bool (*supported)();  ///< by this processor and its operating system
  const Table* (*table)();
};

/// Best first; the last one runs everywhere.
constexpr InstructionSet kSets[] = {
#if defined(__x86_64__)
    {"avx512bf16",
     [] {
       return __builtin_cpu_supports("x86-64-v4") && __builtin_cpu_supports("avx512bf16") &&
              __builtin_cpu_supports("avx512vnni");
     },
     avx512bf16::table},
    {"avx512", [] { return __builtin_cpu_supports("x86-64-v4") != 0; }, avx512::table},
    {"avx2", [] { return __builtin_cpu_supports("x86-64-v3") != 0; }, avx2::table},
    {"generic", [] { return true; }, generic::table},
#elif defined(__aarch64__)
    {"neonbf16", [] { return (getauxval(AT_HWCAP2) & (1ul << 14)) != 0; }, neonbf16::table},  // HWCAP2_BF16
    {"neon", [] { return true; }, neon::table},
#else
    {"generic", [] { return true; }, generic::table},
#endif
};

const Table& choose() {
  const char* wanted = std::getenv("ORCHESTRATOR_ISA");
  if (wanted == nullptr || *wanted == '\0') return *cpu_named(cpu_names().front());
  if (const Table* t = cpu_named(wanted)) return *t;
  std::string have;
  for (const char* name : cpu_names()) have += (have.empty() ? "" : ", ") + std::string(name);
  throw Error("ERR_ISA",
              std::string("ORCHESTRATOR_ISA is \"") + wanted + "\", but this processor has " + have);
}

}  // namespace

std::vector<const char*> cpu_names() {
  std::vector<const char*> names;
  for (const InstructionSet& set : kSets)
    if (set.supported()) names.push_back(set.name);
  return names;
}

const Table* cpu_named(const char* isa) {
  for (const InstructionSet& set : kSets)
    if (std::string(isa) == set.name && set.supported()) return set.table();
  return nullptr;
}

const Table& cpu() {
  static const Table& chosen = choose();
  return chosen;
}

}  // namespace orch::kernels
