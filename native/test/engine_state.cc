// The state of an engine: viewed parameter by parameter, digested, copied, frozen, and freed.
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <future>
#include <random>

#include "../core/error.h"
#include "../engine/engine.h"
#include "devices.h"
#include "driver.h"
#include "harness.h"

namespace {

using namespace orch;
using test::on_driver;

const ModelSpec kModel{2, 2, 2, 4, 48, 32, 8, true, {0}};
const EngineSpec kSpec{kModel, {2, 8, 6, 5}, DType::F32, DType::F32, 2, true, true};

/// Writes random numbers into the whole state from outside.
void fill_state(Engine& e) {
  for (State s : e.states()) {
    std::mt19937 random(static_cast<unsigned>(s) + 1);
    std::normal_distribution<float> normal(0, 0.1f);
    for (size_t i = 0; i < e.table().parameters.size(); ++i) {
      float* const values = e.state(s, i);
      for (int64_t j = 0; j < e.table().parameters[i].length; ++j) values[j] = normal(random);
    }
  }
  e.parameters_changed();
}

TEST("engine state: digests are equal on host and devices, and changed by any bit") {
  Engine host(kSpec);
  const std::string want = on_driver(host, [&] {
    fill_state(host);
    return host.digest();
  });
  CHECK(want.size() == 32, want);
  for (int threads : {1, 3}) {
    EngineSpec spec = kSpec;
    spec.threads = threads;
    Engine other(spec);
    on_driver(other, [&] {
      fill_state(other);
      CHECK(other.digest() == want, threads, " threads");
      return 0;
    });
  }
  const auto changes = [&](Engine& e, const std::string& name) {
    const size_t last = e.table().parameters.size() - 1;
    for (State s : e.states())
      for (const size_t i : {size_t{0}, last}) {
        float& x = e.state(s, i)[e.table().parameters[i].length - 1];
        x = -x;
        e.parameters_changed();
        CHECK(e.digest() != want, name, ": a sign of state ", static_cast<int>(s), " does not show");
        x = -x;
        e.parameters_changed();
      }
    e.positions()[5] += 1;
    CHECK(e.digest() != want, name, ": a position does not show");
    e.positions()[5] -= 1;
    CHECK(e.digest() == want, name);
  };
  on_driver(host, [&] { return changes(host, "host"), 0; });
  for (const test::TestedDevice& d : test::devices()) {
    Engine device(kSpec, d.device);
    on_driver(device, [&] {
      fill_state(device);
      CHECK(device.digest() == want, d.name);
      changes(device, d.name);
      return 0;
    });
  }
}

TEST("engine state: a device's parameters are copied one by one, and only viewed ones are uploaded") {
  for (const test::TestedDevice& d : test::devices()) {
    Engine e(kSpec, d.device);
    on_driver(e, [&] {
      fill_state(e);
      const std::string filled = e.digest();
      const Parameter& second = e.table().parameters[1];
      float* const values = e.state(State::Master, 1);
      const std::vector<float> before(values, values + second.length);
      e.initialize(3);
      CHECK(std::vector<float>(values, values + second.length) != before, d.name, ": initialised");
      for (size_t i = 0; i < e.table().parameters.size(); ++i) e.state(State::Master, i);
      fill_state(e);
      CHECK(std::vector<float>(values, values + second.length) == before && e.digest() == filled, d.name);
      return 0;
    });
  }
}

TEST("engine state: a snapshot without memory fails, and training continues") {
  Engine e({{2, 8, 2, 4, 48, 32, 8, true, {}}, {1, 8, 6, 5}, DType::F32, DType::F32, 1, true, false});
  const auto snapshot = [&] {
    std::promise<std::exception_ptr> copied;
    e.pool().post([&] { e.snapshot([&](std::exception_ptr why) { copied.set_value(why); }); });
    return copied.get_future().get();
  };
  int64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  rlimit limit;
  getrlimit(RLIMIT_AS, &limit);
  const auto failure_with = [&](int64_t mebibytes_left) {
    const rlimit low{static_cast<rlim_t>(pages * sysconf(_SC_PAGESIZE) + (mebibytes_left << 20)),
                     limit.rlim_max};
    setrlimit(RLIMIT_AS, &low);
    const std::exception_ptr failure = snapshot();
    setrlimit(RLIMIT_AS, &limit);
    return failure;
  };
  CHECK(failure_with(32), "there was memory for a thread, not for the copy");
  CHECK(failure_with(0), "there was memory for nothing");
  on_driver(e, [&] { return e.state(State::Master, 0)[0] = 5; });
  CHECK(!snapshot(), "with memory, the next one succeeds");
  CHECK(e.snapshot_of(State::Master, 0)[0] == 5);
}

TEST("engine state: the optimizer names its moments, and an unknown one is rejected") {
  Engine e(kSpec);
  std::vector<std::string> names;
  for (State s : e.states()) names.push_back(e.name_of(s));
  CHECK((names == std::vector<std::string>{"master", "ema", "m", "v"}));
  EngineSpec other = kSpec;
  other.optimizer = "none";
  std::string what;
  try {
    Engine unknown(other);
  } catch (const Error& error) {
    what = error.code() + " " + error.what();
  }
  CHECK(what.starts_with("ERR_MODEL_SPEC There is no optimizer none; there are: adamw"), what);
}

TEST("engine state: trained ranges begin at a multiple of 16 elements") {
  // The final layer's three channels take 3 of 16 elements; the next parameter begins after the padding.
  CHECK((outside({{16, 19}}, 64) == Ranges{{0, 16}, {32, 64}}));
  CHECK((outside({{16, 19}, {32, 40}}, 64) == Ranges{{0, 16}, {48, 64}}));
  CHECK((outside({{48, 61}}, 64) == Ranges{{0, 48}}));
  CHECK((outside({}, 64) == Ranges{{0, 64}}));
  for (const Ranges& wrong : {Ranges{{16, 8}}, Ranges{{0, 20}, {16, 32}}, Ranges{{0, 65}}}) {
    std::string code;
    try {
      outside(wrong, 64);
    } catch (const Error& error) {
      code = error.code();
    }
    CHECK(code == "ERR_NATIVE_ARGUMENT", code);
  }
}

TEST("engine state: an engine frees all its memory after the requested work") {
  const int64_t before = memory_use().current;
  bool initialised = false;
  {
    Engine e(kSpec);
    CHECK(memory_use().current > before);
    e.pool().post([&] {
      e.initialize(1);
      initialised = true;
    });
    e.pool().post([&] { e.snapshot([](std::exception_ptr) {}); });
  }
  CHECK(initialised && memory_use().current == before, memory_use().current - before, " bytes are left");
}

}  // namespace
