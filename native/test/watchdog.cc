// The watchdog ends who hangs, and neither who waits nor who was stopped.
#include "../core/watchdog.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <thread>

#include "../core/pool.h"
#include "harness.h"

namespace {

using namespace orch;

constexpr int kExitCode = 70, kLeastMs = 300;

void sleep_ms(int64_t milliseconds) { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); }

/// A process with a watchdog, a driver that runs the job, and an event loop that beats, or does not.
pid_t start(const std::function<void()>& job, bool beats, int times = 1) {
  const pid_t pid = fork();
  if (pid != 0) return pid;
  // What it says is not of this test.
  close(STDERR_FILENO);
  start_watchdog({kLeastMs, times}, kExitCode);
  Pool pool(1);
  pool.post(job);
  for (;; sleep_ms(5))
    if (beats) beat();
}

void hangs() {
  for (;; sleep_ms(1'000)) continue;
}

void works() {
  for (;; sleep_ms(5)) tick();
}

void waits() {
  const InStage now_at(Stage::Wait);
  hangs();
}

/// A GPU that has done a slot, and then hangs, while the host gives it more.
void hangs_on_device() {
  const InStage now_at(Stage::Device);
  tick_device();
  works();
}

/// The driver has no work, or waits, while another thread copies; the first part is copied quickly.
void copies(bool hangs_then) {
  std::thread([=] {
    Copying copying;
    copying.tick();
    for (;; sleep_ms(5))
      if (!hangs_then) copying.tick();
  }).detach();
}

/// The exit code, once it has ended.
int ended(pid_t pid) {
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// Whether it lives. It is ended then.
bool lives(pid_t pid) {
  const bool lives = waitpid(pid, nullptr, WNOHANG) == 0;
  if (lives) kill(pid, SIGKILL);
  return lives && ended(pid) == -1;
}

TEST("watchdog: ends who hangs in a job or in its event loop, and not who works or waits") {
  const pid_t working = start(works, true), waiting = start(waits, true);
  const pid_t hanging = start(hangs, true), blocked = start(works, false);
  CHECK(ended(hanging) == kExitCode);
  CHECK(ended(blocked) == kExitCode);
  CHECK(lives(working), "it worked all the time");
  CHECK(lives(waiting), "it waited all the time");
}

TEST("watchdog: a GPU that hangs, whatever the host does; one that waits for a copy of its state does not") {
  const pid_t hanging = start(hangs_on_device, true);
  const pid_t copying = start([] { return copies(false), hangs_on_device(); }, true);
  const pid_t first = start(
      [] {
        const InStage now_at(Stage::Device);
        works();
      },
      true);
  CHECK(ended(hanging) == kExitCode);
  CHECK(lives(first), "before its first slot it was given more time");
  CHECK(lives(copying), "its update waits for the copy");
}

TEST("watchdog: a copy of the state that hangs, while the driver has no work or waits for it") {
  const pid_t idle = start([] { copies(true); }, true);
  const pid_t waiting = start(
      [] {
        copies(true);
        waits();
      },
      true);
  const pid_t working = start([] { copies(false); }, true);
  CHECK(ended(idle) == kExitCode);
  CHECK(ended(waiting) == kExitCode);
  CHECK(lives(working), "it copied all the time");
}

TEST("watchdog: the longest time without progress counts, also where the work ended with it") {
  // 360 ms are more than the least patience, and less than four times the 180 ms before.
  const pid_t slow = start(
      [] {
        {
          const InStage now_at(Stage::Compute);
          sleep_ms(180);
        }
        const InStage now_at(Stage::Wait);
        sleep_ms(50);
        const InStage then_at(Stage::Compute);
        sleep_ms(360);
        _exit(0);
      },
      true, 4);
  CHECK(ended(slow) == 0);
}

TEST("watchdog: time in which the process is stopped does not count") {
  const pid_t stopped = start(works, true);
  sleep_ms(50);
  kill(stopped, SIGSTOP);
  // Twice as long as the watchdog has patience, by the watchdog of another process.
  for (int i = 0; i < 2; ++i) CHECK(ended(start(hangs, true)) == kExitCode);
  kill(stopped, SIGCONT);
  sleep_ms(100);
  CHECK(lives(stopped));
}

}  // namespace
