#include "faults.h"

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>

namespace orch::faults {
namespace {

struct Planned {
  Point point;
  int64_t step;
  std::string how;
};

/// Written by plan(), before the engine computes.
Planned g_planned;
std::atomic<bool> g_armed{false};
std::atomic<int64_t> g_step{0};
/// Messages that were sent since the state was asked for; negative: it was not.
std::atomic<int> g_served{-1};
constexpr int kServedFirst = 3;

const char* effect(const std::string& how) {
  if (how == "hang") return "hangs";
  if (how == "segv") return "writes to nowhere";
  return how == "kill" ? "is sent SIGKILL" : "is sent SIGSTOP";
}

void say(const char* where) {
  char text[200];
  const int length = std::snprintf(text, sizeof text, "warn ORCHESTRATOR_FAULT: this worker %s at %s %lld\n",
                                   effect(g_planned.how), where, static_cast<long long>(g_step.load()));
  if (write(STDERR_FILENO, text, static_cast<size_t>(length)) < 0) return;
}

void segv() {
  // A core file would be left over.
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
  // The compiler does not know what is there.
  volatile int* volatile nowhere = nullptr;
  *nowhere = 1;
}

}  // namespace

const std::vector<std::string>& points() {
#define ORCH_FAULT_NAME(name) #name,
  static const std::vector<std::string> names{ORCH_FAULT_POINTS(ORCH_FAULT_NAME)};
#undef ORCH_FAULT_NAME
  return names;
}

void plan(Point point, int64_t step, const std::string& how) {
  g_planned = {point, step, how};
  g_armed = true;
}

void reached(Point point) {
  if (!g_armed || g_planned.point != point || g_step < g_planned.step) return;
  if (point == Point::serving && (g_served < 0 || ++g_served < kServedFirst)) return;
  // Threads come here side by side, and the step may be run again.
  if (!g_armed.exchange(false)) return;
  say(points()[static_cast<size_t>(point)].c_str());
  if (g_planned.how == "kill") kill(getpid(), SIGKILL);
  if (g_planned.how == "stop") kill(getpid(), SIGSTOP);
  if (g_planned.how == "segv") segv();
  while (g_planned.how == "hang") pause();
}

void step(int64_t step) {
  g_step = step;
  g_served = -1;
}

void serves() { g_served = 0; }

}  // namespace orch::faults
