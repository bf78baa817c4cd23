// Registration of the addon, and the functions that need no handle.
#include <sched.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <thread>

#include "../core/file_lock.h"
#include "../core/watchdog.h"
#include "../data/mapped_file.h"
#include "../engine/ceilings.h"
#include "../faults/faults.h"
#include "../kernels/kernels.h"
#include "../kernels/open_cuda.h"
#include "convert.h"
#include "engine_values.h"
#include "objects.h"

namespace orch::addon {
namespace {

/// Number of processors on which this process may run.
double processors() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  return std::max(1u, std::thread::hardware_concurrency());  // the machine has more processors than the set
}

Napi::Value host(const Napi::CallbackInfo& info) {
  return record(info.Env(), {{"isa", kernels::cpu().isa},
                             {"fastBf16", kernels::cpu().fast_bf16},
                             {"kernels", kernels::kVersion},
                             {"processors", processors()}});
}

Napi::Value instruction_sets(const Napi::CallbackInfo& info) {
  std::vector<Napi::Value> list;
  for (const char* name : kernels::cpu_names()) list.push_back(Napi::String::New(info.Env(), name));
  return to_value(info.Env(), list);
}

Napi::Value use_instruction_set(const Napi::CallbackInfo& info) {
  const std::string isa = info[0].ToString();
  kernels::use_cpu(isa.c_str());
  return info.Env().Undefined();
}

Napi::Value cuda(const Napi::CallbackInfo& info) {
  return promise(info.Env(), on_own_thread, nullptr, kernels::cuda_devices,
                 [](Napi::Env env, const std::vector<graph::Device::Description>& devices) {
                   std::vector<Napi::Value> list;
                   for (const auto& d : devices)
                     list.push_back(record(
                         env, {{"name", d.name},
                               {"memoryBytes", d.memory_bytes},
                               {"libraries", d.libraries},
                               {"problem", d.problem.empty() ? env.Null() : to_value(env, d.problem)}}));
                   return to_value(env, list);
                 });
}

Napi::Value device_ceilings(const Napi::CallbackInfo& info) {
  const int ordinal = static_cast<int>(integer(info[0], "device", 0, 1024));
  const DType t = precision(info[1], "precision");
  return promise(
      info.Env(), on_own_thread, nullptr,
      [=] { return orch::device_ceilings(kernels::open_cuda(ordinal), t); },
      [](Napi::Env env, const Ceilings& c) {
        return record(env, {{"flops", c.matmul}, {"bandwidth", c.copy}});
      });
}

Napi::Value add_into(const Napi::CallbackInfo& info) {
  auto dst = typed_array<float>(info[0], "dst"), src = typed_array<float>(info[1], "src");
  if (dst.ElementLength() != src.ElementLength() || dst.ElementLength() > 262144)
    wrong(info.Env(), "dst and src", "arrays of equal length, at most 262144 elements,");
  ORCH_FAULT(adding);
  kernels::cpu().f32.add(dst.Data(), dst.Data(), src.Data(), static_cast<int64_t>(dst.ElementLength()));
  return info.Env().Undefined();
}

Napi::Value checksum(const Napi::CallbackInfo& info) {
  auto bytes = typed_array<uint8_t>(info[0], "bytes");
  ORCH_FAULT(serving);
  return Napi::BigInt::New(
      info.Env(), kernels::cpu().raw.checksum(bytes.Data(), static_cast<int64_t>(bytes.ByteLength())));
}

Napi::Value drop_cached_pages(const Napi::CallbackInfo& info) {
  const std::string path = info[0].ToString();
  return promise(
      info.Env(), on_own_thread, nullptr,
      [=] {
        ORCH_FAULT(staging);
        orch::drop_cached_pages(path);
      },
      Converted{});
}

Napi::Value matmul_peak(const Napi::CallbackInfo& info) {
  const DType t = precision(info[0], "precision");
  const int64_t m = integer(info[1], "m"), n = integer(info[2], "n"), k = integer(info[3], "k");
  const int threads = static_cast<int>(integer(info[4], "threads", 1, kMostThreads));
  const double seconds = info[5].ToNumber().DoubleValue();
  return promise(
      info.Env(), on_own_thread, nullptr, [=] { return orch::matmul_peak(t, m, n, k, threads, seconds); },
      Converted{});
}

Napi::Value model_parameters(const Napi::CallbackInfo& info) {
  const ModelSpec model = model_of(object(info[0], "the model"));
  return to_value(info.Env(), model, ParameterTable(model));
}

Napi::Value plan_figures(const Napi::CallbackInfo& info) {
  const PlanFigures f = orch::plan_figures(spec_of(object(info[0], "the engine's options")));
  const std::vector<int64_t> arenas(f.arena_bytes.begin(), f.arena_bytes.end());
  const auto list = [&](const std::vector<double>& v) {
    return to_value(info.Env(), std::vector<int64_t>(v.begin(), v.end()));
  };
  return record(info.Env(), {{"parameters", f.parameters},
                             {"length", f.length},
                             {"moments", f.moments},
                             {"flops", f.flops},
                             {"arenaBytes", arenas},
                             {"executedFlops", list(f.executed_flops)},
                             {"memoryBoundBytes", list(f.memory_bound_bytes)}});
}

Napi::Value plan_operations(const Napi::CallbackInfo& info) {
  return to_value(info.Env(), orch::plan_operations(spec_of(object(info[0], "the engine's options"))));
}

Napi::Value lock_file(const Napi::CallbackInfo& info) {
  return to_value(info.Env(),
                  orch::lock_file(static_cast<int>(integer(info[0], "the descriptor", 0, INT32_MAX))));
}

Napi::Value is_locked(const Napi::CallbackInfo& info) {
  return to_value(info.Env(),
                  orch::is_locked(static_cast<int>(integer(info[0], "the descriptor", 0, INT32_MAX))));
}

Napi::Value progress(const Napi::CallbackInfo& info) {
  constexpr const char* kNames[] = {"idle", "compute", "exchange", "update", "compute", "wait"};
  const Progress now = orch::progress();
  return record(info.Env(), {{"stage", kNames[static_cast<int>(now.stage)]}, {"ticks", now.ticks}});
}

Napi::Value start_watchdog(const Napi::CallbackInfo& info) {
  auto o = object(info[0], "the options");
  orch::start_watchdog({integer(o, "leastMs", 1, 1 << 30), integer(o, "times", 1, 1 << 20)},
                       static_cast<int>(integer(o, "exitCode", 1, 255)));
  return info.Env().Undefined();
}

Napi::Value beat(const Napi::CallbackInfo& info) {
  orch::beat();
  return info.Env().Undefined();
}

Napi::Value exit_process(const Napi::CallbackInfo& info) {
  _exit(static_cast<int>(integer(info[0], "the exit code", 0, 255)));
}

/// The process at the other end of a Unix socket, as the kernel saw it when it connected or began to listen.
Napi::Value socket_peer(const Napi::CallbackInfo& info) {
  const int fd = static_cast<int>(integer(info[0], "the descriptor", 0, INT_MAX));
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
    throw Error("ERR_TOKEN", "The process at the other end of a local socket is unknown");
  return record(info.Env(),
                {{"pid", static_cast<double>(peer.pid)}, {"user", static_cast<double>(peer.uid)}});
}

#ifdef ORCH_FAULTS
Napi::Value plan_fault(const Napi::CallbackInfo& info) {
  const auto& names = faults::points();
  const auto found = std::find(names.begin(), names.end(), info[0].ToString().Utf8Value());
  if (found == names.end()) wrong(info.Env(), "point", "a point of native code");
  faults::plan(static_cast<faults::Point>(found - names.begin()), integer(info[1], "step"),
               info[2].ToString());
  return info.Env().Undefined();
}

/// This addon must not be mistaken for one that trains: it says so wherever it is loaded.
void add_faults(Napi::Env env, Napi::Object exports) {
  std::fputs("warn This addon has fault points (ORCH_FAULTS=ON): it is for tests alone\n", stderr);
  Napi::Object of_tests = Napi::Object::New(env);
  std::vector<Napi::Value> points;
  for (const std::string& name : faults::points()) points.push_back(Napi::String::New(env, name));
  of_tests.Set("points", to_value(env, points));
  method(of_tests, "plan", plan_fault);
  exports.Set("faults", of_tests);
}
#endif

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  // Engines' threads call back into the environment, whose end they would have to survive: a worker's may
  // come at any time, the main one's comes with the process.
  if (syscall(SYS_gettid) != getpid())
    throw to_js(env, "ERR_NATIVE_MISSING",
                "The addon works on the main thread alone, not in a worker of worker_threads");
  method(exports, "host", host);
  method(exports, "instructionSets", instruction_sets);
  method(exports, "useInstructionSet", use_instruction_set);
  method(exports, "cudaDevices", cuda);
  method(exports, "deviceCeilings", device_ceilings);
  method(exports, "createEngine", create_engine);
  method(exports, "createGroup", create_group);
  method(exports, "parameters", model_parameters);
  method(exports, "planFigures", plan_figures);
  method(exports, "planOperations", plan_operations);
  method(exports, "mapDataset", map_dataset);
  method(exports, "addInto", add_into);
  method(exports, "checksum", checksum);
  method(exports, "dropCachedPages", drop_cached_pages);
  method(exports, "matmulPeak", matmul_peak);
  method(exports, "socketPeer", socket_peer);
  method(exports, "lockFile", lock_file);
  method(exports, "isLocked", is_locked);
  method(exports, "progress", progress);
  method(exports, "startWatchdog", start_watchdog);
  method(exports, "beat", beat);
  method(exports, "exitProcess", exit_process);
  exports.Set("elementary", elementary_functions(env));
#ifdef ORCH_FAULTS
  add_faults(env, exports);
#endif
  return exports;
}

}  // namespace

NODE_API_MODULE(orchestrator, initialize)

}  // namespace orch::addon
