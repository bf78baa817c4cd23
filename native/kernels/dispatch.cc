// Chooses the kernels for the processor at run time.
#include <cstdlib>
#include <string>

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include "../core/error.h"
#include "kernels.h"

namespace orch::kernels {

// EACH(instruction set, whether this processor and its operating system have it), best first; the last one
// runs everywhere.
#if defined(__x86_64__)
#define ORCH_INSTRUCTION_SETS(EACH)                                                               \
  EACH(avx512bf16, __builtin_cpu_supports("x86-64-v4") && __builtin_cpu_supports("avx512bf16") && \
                       __builtin_cpu_supports("avx512vnni"))                                      \
  EACH(avx512, __builtin_cpu_supports("x86-64-v4"))                                               \
  EACH(avx2, __builtin_cpu_supports("x86-64-v3"))                                                 \
  EACH(generic, true)
#elif defined(__aarch64__)
#define ORCH_INSTRUCTION_SETS(EACH) \
  EACH(neonbf16, (getauxval(AT_HWCAP2) & (1ul << 14)) != 0) /* HWCAP2_BF16 */ EACH(neon, true)
#else
#define ORCH_INSTRUCTION_SETS(EACH) EACH(generic, true)
#endif

#define ORCH_DECLARE(isa, supported) \
  namespace isa {                    \
  const Table* table();              \
  }
ORCH_INSTRUCTION_SETS(ORCH_DECLARE)

namespace {

struct InstructionSet {
  const char* name;
  bool (*supported)();
  const Table* (*table)();
};
#define ORCH_ENTRY(isa, supported) {#isa, [] { return static_cast<bool>(supported); }, isa::table},
constexpr InstructionSet kSets[] = {ORCH_INSTRUCTION_SETS(ORCH_ENTRY)};

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
