// Whether this process gets on: what its computing threads are at, how many pieces of work they have done,
// and a thread that ends the process if they, or the event loop, stand for too long.
#pragma once
#include <cstdint>

namespace orch {

/// What the driver of an engine is at. While it waits for other processes, they may hang, but not this one.
/// `Device`: only its GPU works, of which the host learns nothing until a slot is done.
enum class Stage { Idle, Compute, Exchange, Update, Device, Wait };

struct Progress {
  Stage stage;
  uint64_t ticks;
};
Progress progress();

/// A piece of work is done: a node of the graph, a piece of an array.
void tick();
/// The GPU has done what it was given, a slot for example. What the host does meanwhile is no sign of that.
void tick_device();

/// A copy beside the driver's work goes on: it begins, a part is copied, it has ended.
class Copying {
 public:
  Copying();
  ~Copying();
  Copying(const Copying&) = delete;
  void tick();
};

/// Sets the stage as long as it lives, then that before.
class InStage {
 public:
  explicit InStage(Stage stage);
  ~InStage();
  InStage(const InStage&) = delete;

 private:
  const Stage before_;
};

/// How long ticks, or beats of the event loop, may stand: `least_ms`, or so many times the longest that they
/// stood before, if that is more. A GPU's may stand ten times as long before the first: libraries are loaded
/// then, and there is nothing to compare with.
struct Patience {
  int64_t least_ms = 30'000, times = 30;
};

/// Starts the watchdog, once in a process. It ends the process with this exit code, and says why. Time in
/// which the process itself was stopped does not count: the watchdog counts the time in which it ran itself.
void start_watchdog(const Patience& patience, int exit_code);
/// The event loop gets on.
void beat();

}  // namespace orch
