// Chooses the kernels for the processor at run time.
#include <atomic>
#include <cstdlib>
#include <mutex>
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

std::atomic<const Table*> chosen{nullptr};
std::mutex choosing;
int uses = 0;  // guarded by it

const Table& named(const char* isa, const char* asked) {
  if (const Table* t = cpu_named(isa)) return *t;
  std::string have;
  for (const char* name : cpu_names()) have += (have.empty() ? "" : ", ") + std::string(name);
  throw Error("ERR_ISA", asked, " \"", isa, "\", but this processor has ", have);
}

const Table& choose() {
  const char* wanted = std::getenv("ORCHESTRATOR_ISA");
  const bool is_asked = wanted != nullptr && *wanted != '\0';
  return named(is_asked ? wanted : cpu_names().front(), "ORCHESTRATOR_ISA is");
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
  if (const Table* t = chosen.load(std::memory_order_acquire)) return *t;
  const std::lock_guard lock(choosing);
  if (chosen.load(std::memory_order_relaxed) == nullptr) chosen.store(&choose(), std::memory_order_release);
  return *chosen.load(std::memory_order_relaxed);
}

void use_cpu(const char* isa) {
  const std::lock_guard lock(choosing);
  const Table& wanted = named(isa, "The run computes with");
  if (uses > 0 && &wanted != chosen.load(std::memory_order_relaxed))
    throw Error("ERR_INTERNAL", "The instruction set cannot change while an engine is open");
  chosen.store(&wanted, std::memory_order_release);
}

CpuUse::CpuUse() {
  const std::lock_guard lock(choosing);
  ++uses;
}

CpuUse::~CpuUse() {
  const std::lock_guard lock(choosing);
  --uses;
}

}  // namespace orch::kernels
