#include "watchdog.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <thread>

namespace orch {
namespace {

std::atomic<Stage> g_stage{Stage::Idle};
std::atomic<uint64_t> g_ticks{0}, g_device_ticks{0}, g_beats{0}, g_copied{0};
std::atomic<int> g_copies{0};

constexpr int64_t kFirstTimes = 10;

/// How long a count stands.
class Standing {
 public:
  /// @param passed since the last call
  /// @param counts whether it should change: if not, it does not stand
  /// Returns whether it has stood for too long.
  bool too_long(uint64_t count, bool counts, int64_t passed_ms, const Patience& patience) {
    if (count != last_ || !counts) {
      longest_ms_ = std::max(longest_ms_, stood_ms_);
      last_ = count;
      stood_ms_ = 0;
      return false;
    }
    stood_ms_ += passed_ms;
    return stood_ms_ > std::max(patience.least_ms, patience.times * longest_ms_);
  }
  int64_t stood_ms() const { return stood_ms_; }

 private:
  uint64_t last_ = 0;
  int64_t stood_ms_ = 0, longest_ms_ = 0;
};

[[noreturn]] void end(const char* what, int64_t milliseconds, int exit_code) {
  char text[200];
  const int length = std::snprintf(text, sizeof text, "warn this worker hangs and is ended: %s for %.1f s\n",
                                   what, static_cast<double>(milliseconds) * 1e-3);
  // The exit code says it, too.
  if (write(STDERR_FILENO, text, static_cast<size_t>(length)) < 0) _exit(exit_code);
  _exit(exit_code);
}

const char* standing_in(Stage stage) {
  if (stage == Stage::Exchange) return "the exchange of gradients has stood";
  if (stage == Stage::Device) return "its GPU has done nothing";
  return stage == Stage::Update ? "the update has stood" : "nothing was computed";
}

void watch(const Patience& patience, int exit_code) {
  const int64_t interval_ms = std::clamp<int64_t>(patience.least_ms / 30, 1, 1'000);
  Standing ticks, device, copies, beats;
  for (;;) {
    // Where the process was stopped meanwhile, this takes longer, and counts no more.
    std::this_thread::sleep_for(std::chrono::milliseconds(interval_ms));
    const Stage stage = g_stage;
    const bool on_device = stage == Stage::Device;
    // The GPU may wait for the copy of its state.
    const bool copies_state = g_copies > 0;
    const bool works = !on_device && stage != Stage::Idle && stage != Stage::Wait;
    if (ticks.too_long(g_ticks, works, interval_ms, patience))
      end(standing_in(stage), ticks.stood_ms(), exit_code);
    const uint64_t done = g_device_ticks;
    const Patience of_device{patience.least_ms * (done == 0 ? kFirstTimes : 1), patience.times};
    if (device.too_long(done, on_device && !copies_state, interval_ms, of_device))
      end(standing_in(stage), device.stood_ms(), exit_code);
    if (copies.too_long(g_copied, copies_state, interval_ms, patience))
      end("a copy of the state has stood", copies.stood_ms(), exit_code);
    if (beats.too_long(g_beats, true, interval_ms, patience))
      end("its event loop has stood", beats.stood_ms(), exit_code);
  }
}

}  // namespace

Progress progress() { return {g_stage, g_ticks + g_device_ticks}; }

void tick() { g_ticks.fetch_add(1, std::memory_order_relaxed); }

void tick_device() { g_device_ticks.fetch_add(1, std::memory_order_relaxed); }

Copying::Copying() { ++g_copies; }

Copying::~Copying() { --g_copies; }

void Copying::tick() { g_copied.fetch_add(1, std::memory_order_relaxed); }

InStage::InStage(Stage stage) : before_(g_stage.exchange(stage)) { tick(); }

InStage::~InStage() {
  g_stage = before_;
  tick();
}

void start_watchdog(const Patience& patience, int exit_code) {
  static std::atomic<bool> started{false};
  if (!started.exchange(true)) std::thread(watch, patience, exit_code).detach();
}

void beat() { g_beats.fetch_add(1, std::memory_order_relaxed); }

}  // namespace orch
