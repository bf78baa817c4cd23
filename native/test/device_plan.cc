// The launches of a training step of every supported model and shape, on a device that plans and launches
// nothing: grids, blocks, shared memory and alignment are within the limits of every GPU from compute
// capability 8.0 on, and the memory is as expected.
#include <tuple>

#include "devices.h"
#include "engine/engine.h"
#include "graph/executor.h"
#include "kernels/cuda/device.h"
#include "kernels/open_cuda.h"

namespace orch::test {
namespace {

struct Plan {
  const char* name;
  ModelSpec model;
  BatchShape shape;
  Recompute recompute;
  int64_t most_gib;  ///< weights, states, one gradient and activations
};

std::vector<int64_t> first(int64_t n) {
  std::vector<int64_t> v;
  for (int64_t i = 0; i < n; ++i) v.push_back(i);
  return v;
}

TEST("device: launches of every model fit the GPU") {
  for (const TestedDevice& d : devices())
    if (d.real) return skip("there is a GPU, whose library serves one device a process");
  graph::Device* device = nullptr;
  try {
    device = &kernels::open_cuda(-1);
  } catch (const Error& e) {
    return skip(e.what());
  }
  const ModelSpec medium{24, 24, 2, 16, 4096, 2048, 192, true, {}},
      dual{24, 24, 2, 16, 4096, 2048, 384, true, first(13)}, large{38, 38, 2, 16, 4096, 2048, 192, true, {}},
      tiny{4, 3, 2, 4, 64, 32, 16, true, {}};
  const Plan plans[] = {
      {"d = 24, 256 px, 64 samples", medium, {64, 32, 32, 154}, Recompute::Nothing, 139},
      {"d = 24, 512 px, 16 samples", medium, {16, 64, 64, 154}, Recompute::Nothing, 139},
      {"d = 24, 1024 px, 4 samples", medium, {4, 128, 128, 154}, Recompute::Norms, 139},
      {"d = 24, dual attention, 512 px", dual, {8, 64, 64, 154}, Recompute::Nothing, 139},
      {"d = 38, 512 px, 1 sample", large, {1, 64, 64, 154}, Recompute::Block, 160},
      {"d = 24, 1440 px, 333 tokens", medium, {1, 180, 180, 333}, Recompute::Block, 139},
      {"the demo's", tiny, {32, 8, 8, 8}, Recompute::Nothing, 1},
  };
  for (const Plan& p : plans)
    for (auto [residual, t, float8] : {std::tuple{DType::BF16, DType::BF16, false},
                                       {DType::BF16, DType::BF16, true},
                                       {DType::F32, DType::BF16, false},
                                       {DType::F32, DType::F32, false}}) {
      const std::string at =
          text(p.name, ", residual ", name_of(residual), ", ", name_of(t), float8 ? ", fp8" : "");
      const ParameterTable table(p.model);
      auto built =
          build_model(p.model, table, p.shape, {t, residual, true, false, p.recompute, float8, *device});
      const auto& g = built->graph;
      device->take_launches();
      const auto allocate = [device](size_t bytes) { return device->allocate(bytes).data(); };
      graph::Executor e(g, 1, *device);
      for (int64_t i = 0; i < kInputs; ++i) e.bind_input(i, allocate(1));
      const size_t parameters = static_cast<size_t>(table.length) * sizeof(float);
      e.bind_flat(static_cast<float*>(allocate(parameters)), static_cast<bf16*>(allocate(parameters)),
                  static_cast<float*>(allocate(parameters)));
      e.run(static_cast<kernels::AttentionStats*>(allocate(1)), nullptr);
      const auto l = device->take_launches();
      CHECK(l.count > static_cast<int64_t>(g.nodes().size()) / 2, at);
      CHECK(l.most_shared <= kernels::cuda::kLeastShared, at);
      const double gib =
          static_cast<double>(g.arena_bytes() + l.workspace + table.length * (t == DType::BF16 ? 18 : 16)) /
          (1 << 30);
      if (t == DType::BF16 && residual == DType::BF16)
        CHECK(gib <= static_cast<double>(p.most_gib), at, ": ", gib, " GiB");
      if (std::getenv("ORCHESTRATOR_TEST_VERBOSE"))
        std::printf(
            "  %s: %lld launches, at most %lld blocks, %zu bytes of shared memory, workspace %zu MiB, "
            "activations "
            "%.1f GiB, in all %.1f GiB\n",
            at.c_str(), static_cast<long long>(l.count), static_cast<long long>(l.most_blocks), l.most_shared,
            l.workspace >> 20, static_cast<double>(g.arena_bytes()) / (1 << 30), gib);
    }
}

}  // namespace
}  // namespace orch::test
