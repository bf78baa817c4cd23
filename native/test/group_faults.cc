// Members of a group that are killed, or stopped and woken, at random moments of a training with a shared
// state: the others go on from the step that was begun, with the bits of an undisturbed training. Members are
// processes of their own. This one does what the coordinator of a run does.
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <sstream>
#include <thread>

#include "../core/error.h"
#include "driver.h"
#include "harness.h"
#include "training_set.h"

namespace orch::test {
namespace {

constexpr int64_t kSlots = 4;
// Several pieces: 64 Ki elements are one.
const ModelSpec kModel{2, 2, 2, 4, 48, 32, 8, true, {0}};
EngineSpec spec(DType compute, int threads) {
  return {kModel, {2, 4, 4, 5}, compute, compute, threads, true, true};
}

/// How many members are lost in the middle of an update in each training: a few, more in .ci/run, and as many
/// as one asks for.
int wanted_faults() {
  if (const char* wanted = std::getenv("ORCHESTRATOR_TEST_FAULTS")) return std::atoi(wanted);
  const char* full = std::getenv("ORCHESTRATOR_TEST_FULL");
  return full && std::string(full) == "1" ? 12 : 4;
}

/// The gradients of slots [first, end) of kSlots.
void accumulate(Engine& e, int64_t first, int64_t end) {
  AccumulateRequest r{{}, kSlots, 1.0f / (2 * kSlots), 99, 1, false};
  for (int64_t slot = first; slot < end; ++slot) r.slots.push_back({slot, batch(2 * slot)});
  e.accumulate(r, [](int) {});
}

/// The EMA is left as it is in every fourth step.
void update(Engine& e, int64_t step) {
  e.update({step, 1e-3, 0.9, 0.99, 1e-8, 0.01, 0.5, step % 4 == 0 ? 1 : 0.9});
}

// --- a member: lines of commands come from the coordinator, and lines of answers go to it

/// "generation rank address..." lets the member leave the generation before, and enter this one; it answers
/// with the generation, the step after which it found the state, how many pieces had to be completed, and the
/// digest. Then it makes a gradient, says that it updates with it, and does so until the next command.
/// "fault signal microseconds" sends it a signal after so much processor time. "leave" makes it leave. ""
/// ends it.
class Member {
 public:
  Member(DType compute, int threads, const TrainingSet& set, int commands, int answers)
      : engine_(spec(compute, threads)), group_(std::make_shared<Group>(GroupPatience{20, 20})) {
    engine_.attach(set.data, kText);
    commands_ = fdopen(commands, "r");
    answers_ = fdopen(answers, "w");
    say(group_->address());
  }

  void run() {
    char* line = nullptr;
    size_t size = 0;
    while (getline(&line, &size, commands_) > 1) {
      int signal, microseconds;
      if (std::sscanf(line, "fault %d %d", &signal, &microseconds) == 2) {
        arm(signal, microseconds);
        continue;
      }
      group_->abort();
      wanted_ = 0;
      if (std::strcmp(line, "leave\n") == 0) continue;
      std::istringstream words(line);
      uint64_t generation;
      int rank;
      words >> generation >> rank;
      wanted_ = generation;
      const std::vector<std::string> addresses{std::istream_iterator<std::string>(words), {}};
      const auto failed = [=, this](const Error& error) { say(text(generation, " failed ", error.what())); };
      try {
        group_->form(addresses, rank, generation);
      } catch (const Error& error) {  // a member has ended
        failed(error);
        continue;
      }
      engine_.pool().post([=, this, size = static_cast<int64_t>(addresses.size())] {
        try {
          train(generation, rank, size);
        } catch (const Error& error) {
          if (error.code() != "ERR_EXCHANGE" || wanted_ == generation) failed(error);
        }
      });
    }
  }

 private:
  void train(uint64_t generation, int64_t rank, int64_t size) {
    const Engine::Joined joined = engine_.join(group_, generation);
    int64_t step = joined.step;
    if (step == SharedState::kNoStep) {
      if (rank == 0) random_start(engine_);
      step = 0;
    }
    engine_.state_loaded(step);
    say(text(generation, " begins ", step, " ", joined.completed, " ", engine_.digest()));
    accumulate(engine_, rank * kSlots / size, (rank + 1) * kSlots / size);
    engine_.reduce();
    say(text(generation, " updates"));
    while (wanted_ == generation) {
      update(engine_, ++step);
      // As in a run, where the next step's gradients come between.
      const auto presence = group_->presence();
      group_->barrier();
    }
  }

  /// While a member waits for others it takes no processor time, so the signal finds it at work.
  static void arm(int signal, int microseconds) {
    sigevent event{};
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = signal;
    timer_t timer;
    const itimerspec after{{0, 0}, {0, 1'000 * microseconds}};
    if (timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &timer) != 0 ||
        timer_settime(timer, 0, &after, nullptr) != 0)
      throw std::runtime_error("no timer");
  }

  void say(const std::string& line) {
    std::fprintf(answers_, "%s\n", line.c_str());
    std::fflush(answers_);
  }

  Engine engine_;
  std::shared_ptr<Group> group_;
  FILE *commands_, *answers_;
  std::atomic<uint64_t> wanted_{0};
};

/// The coordinator's side of a member.
struct Process {
  pid_t pid;
  FILE *commands, *answers;
  std::string address;

  void command(const std::string& line) const {
    std::fprintf(commands, "%s\n", line.c_str());
    std::fflush(commands);
  }

  std::string answer() const {
    char* line = nullptr;
    size_t size = 0;
    const ssize_t length = getline(&line, &size, answers);
    const std::string text = length > 0 ? std::string(line, static_cast<size_t>(length) - 1) : "";
    std::free(line);
    return text;
  }
};

Process start(DType compute, int threads, const TrainingSet& set, const std::vector<Process>& others) {
  int commands[2], answers[2];
  if (pipe(commands) != 0 || pipe(answers) != 0) throw std::runtime_error("no pipe");
  const pid_t pid = fork();
  if (pid < 0) throw std::runtime_error("no process");
  if (pid == 0) {
    // The ends of pipes of others would keep those alive.
    for (const Process& p : others) {
      close(fileno(p.commands));
      close(fileno(p.answers));
    }
    close(commands[1]);
    close(answers[0]);
    Member(compute, threads, set, commands[0], answers[1]).run();
    _exit(0);
  }
  close(commands[0]);
  close(answers[1]);
  Process p{pid, fdopen(commands[1], "w"), fdopen(answers[0], "r"), ""};
  p.address = p.answer();
  return p;
}

/// What the members of a generation began with.
struct Begun {
  int64_t step, completed;
  std::string digest;
  bool operator==(const Begun&) const = default;
};

/// The generations of a training, and how its members come and go.
struct Training {
  std::vector<Process> members;
  std::map<uint64_t, Begun> begun;  // by generation
  uint64_t generation = 0;

  void ask() {
    ++generation;
    std::string addresses;
    for (const Process& p : members) addresses += " " + p.address;
    for (size_t r = 0; r < members.size(); ++r) members[r].command(text(generation, " ", r, addresses));
  }

  /// Waits until all update in this generation. Some may have begun those before, which others could not.
  void await() {
    for (const Process& p : members)
      for (bool updates = false; !updates;) {
        const std::string answer = p.answer();
        CHECK(!answer.empty(), "a member has ended by itself");
        if (answer.empty()) return;
        std::istringstream words(answer);
        Begun now;
        uint64_t of = 0;
        std::string word;
        words >> of >> word;
        if (word == "begins" && words >> now.step >> now.completed >> now.digest) {
          CHECK(begun.try_emplace(of, now).first->second == now, answer);
        } else {
          CHECK(word == "updates" || of < generation, answer);
          updates = of == generation;
        }
      }
  }

  /// One is ended or stopped by a signal after some of its processor time.
  Process lose(size_t rank, int signal, int microseconds) {
    const Process gone = take(rank);
    gone.command(text("fault ", signal, " ", microseconds));
    siginfo_t info;
    waitid(P_PID, static_cast<id_t>(gone.pid), &info, WEXITED | WSTOPPED | WNOWAIT);
    return gone;
  }

  /// One is killed now, whatever it is at.
  Process end(size_t rank) {
    const Process gone = take(rank);
    kill(gone.pid, SIGKILL);
    return gone;
  }

  Process take(size_t rank) {
    const Process taken = members[rank];
    members.erase(members.begin() + static_cast<long>(rank));
    return taken;
  }
};

/// Waits for the end of a member that was killed, by the coordinator or by the others.
void bury(const Process& p) {
  int status = 0;
  waitpid(p.pid, &status, 0);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status ", status);
  std::fclose(p.commands);
  std::fclose(p.answers);
}

bool has_ended(const Process& p) {
  siginfo_t info{};
  waitid(P_PID, static_cast<id_t>(p.pid), &info, WEXITED | WNOHANG | WNOWAIT);
  return info.si_pid != 0;
}

enum class Fault { Kill, StopAndContinue };

/// Runs a training in which one member after the other is lost and replaced, until as many were lost as are
/// wanted, and compares the state at each loss with that of an undisturbed engine. One that is killed only
/// counts where it leaves an update to be completed.
void disturbed(DType compute, int threads, Fault fault) {
  const TrainingSet set(4 * 4 * 4);
  std::mt19937 random(static_cast<unsigned>(threads));
  const auto draw = [&](int below) { return std::uniform_int_distribution<>(0, below - 1)(random); };
  const auto sleep = [](int microseconds) {
    std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
  };
  Training training;
  auto& members = training.members;
  const auto fill = [&] {
    // Before or behind those that live: a rank is no property of a process.
    while (members.size() < 3)
      members.insert(draw(2) == 0 ? members.begin() : members.end(), start(compute, threads, set, members));
  };
  const auto next_generation = [&] {
    training.ask();
    training.await();
  };
  fill();
  next_generation();
  const int wanted = wanted_faults();
  int lost = 0, torn = 0;
  while (fault == Fault::Kill ? torn < wanted : lost < wanted || torn == 0) {
    const bool stopped = fault == Fault::StopAndContinue;
    const Process gone =
        training.lose(static_cast<size_t>(draw(3)), stopped ? SIGSTOP : SIGKILL, 1 + draw(4'000));
    ++lost;
    // One that wakes up early enough leaves by itself, and comes back.
    const bool may_return = stopped && draw(2) == 0;
    if (may_return) gone.command("leave");
    std::thread waking;
    if (stopped)
      waking = std::thread([=, after = draw(50'000)] {
        sleep(after);
        kill(gone.pid, SIGCONT);
      });
    // Sometimes another one is killed while the others complete what the first one has left.
    if (draw(4) == 0) {
      const pid_t other = members[static_cast<size_t>(draw(2))].pid;
      fill();
      training.ask();
      sleep(draw(6'000));
      size_t rank = 0;
      while (members[rank].pid != other) ++rank;
      bury(training.end(rank));
    }
    if (!may_return) fill();
    next_generation();
    if (training.begun.rbegin()->second.completed > 0) ++torn;
    if (waking.joinable()) waking.join();
    if (!may_return || has_ended(gone)) {
      bury(gone);
    } else {
      members.push_back(gone);
    }
    if (may_return) {
      fill();
      next_generation();
    }
  }
  while (!members.empty()) bury(training.end(0));

  Engine alone(spec(compute, 2));
  alone.attach(set.data, kText);
  on_driver(alone, [&] {
    random_start(alone);
    int64_t step = 0;
    for (const auto& [generation, begun] : training.begun) {
      while (step < begun.step) update(alone, ++step);
      CHECK(step == begun.step && alone.digest() == begun.digest, "generation ", generation, ", step ",
            begun.step, " after ", step);
      accumulate(alone, 0, kSlots);
      alone.reduce();
    }
    return 0;
  });
}

TEST("group faults: members killed in the middle of updates change no bit, in fp32") {
  disturbed(DType::F32, 1, Fault::Kill);
}

TEST("group faults: members killed in the middle of updates change no bit, in bf16") {
  disturbed(DType::BF16, 2, Fault::Kill);
}

TEST("group faults: members that are stopped, and wake up, change no bit") {
  disturbed(DType::F32, 2, Fault::StopAndContinue);
}

/// The first leader makes the memory of the state, and is gone before it has written anything there.
TEST("group faults: who leads after a leader that has left an empty state begins with the same bits") {
  const EngineSpec small = spec(DType::F32, 1);
  Engine alone(small), engine(small);
  const int64_t pieces = (engine.table().length + (1 << 16) - 1) / (1 << 16);
  const auto first_state = [](Engine& e) {
    random_start(e);
    e.state_loaded(0);
    return e.digest();
  };
  const auto group = std::make_shared<Group>();
  Group leader;
  const std::vector<std::string> addresses{leader.address(), group->address()};
  leader.form(addresses, 0, 1);
  group->form(addresses, 1, 1);
  std::thread first([&] {
    leader.enter(1, leader.allocate(sizeof(optim::UndoLog)));
    // More than the arrays of this engine need.
    leader.share_state(pieces, [](SharedState& state) { state.map(16 * SharedFile::kAlignment); });
    leader.abort();
    group->abort();  // as the coordinator tells those that are left
  });
  std::string code, message;
  try {
    on_driver(engine, [&] { return engine.join(group, 1).step; });
  } catch (const Error& error) {
    code = error.code();
    message = error.what();
  }
  first.join();
  CHECK(code == "ERR_EXCHANGE", code, ": ", message);
  group->form({group->address()}, 0, 2);
  const std::string digest = on_driver(engine, [&] {
    CHECK(engine.join(group, 2).step == SharedState::kNoStep);
    return first_state(engine);
  });
  const std::string expected = on_driver(alone, [&] { return first_state(alone); });
  CHECK(digest == expected, digest, " and ", expected);
}

}  // namespace
}  // namespace orch::test
