// Velocity, loss and every gradient of the cases that the original implementation computed in fp64
// (test/fixtures/mmdit), on the CPU and on devices, in fp32 and bf16. ORCHESTRATOR_FIXTURES names the folder
// of the cases.
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <map>

#include "devices.h"
#include "driver.h"
#include "engine/engine.h"

namespace orch::test {
namespace {

/// A safetensors file, all tensors as fp32; only for our own files, whose names contain no escapes.
struct Tensors {
  std::map<std::string, std::vector<float>> values;
  std::string header;

  explicit Tensors(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    CHECK(bool(file), "cannot read ", path);
    uint64_t length = 0;
    file.read(reinterpret_cast<char*>(&length), 8);
    header.resize(length);
    file.read(header.data(), static_cast<int64_t>(length));
    std::vector<char> bytes((std::istreambuf_iterator<char>(file)), {});
    // "name":{"dtype":"F16","shape":[...],"data_offsets":[from,to]}
    for (size_t at = 0; (at = header.find("\"dtype\":", at)) != std::string::npos; ++at) {
      const size_t open = header.rfind('{', at), end_name = header.rfind('"', open),
                   name = header.rfind('"', end_name - 1) + 1;
      const bool half = header.find("F16", at) < header.find("F32", at);
      const size_t offsets = header.find('[', header.find("data_offsets", at)) + 1;
      char* next = nullptr;
      const int64_t from = std::strtoll(&header[offsets], &next, 10),
                    to = std::strtoll(next + 1, nullptr, 10);
      std::vector<float>& v = values[header.substr(name, end_name - name)];
      v.resize(static_cast<size_t>(to - from) / (half ? 2 : 4));
      if (half)
        kernels::cpu().f32.from_f16(v.data(), reinterpret_cast<const f16*>(bytes.data() + from),
                                    static_cast<int64_t>(v.size()));
      else
        std::memcpy(v.data(), bytes.data() + from, static_cast<size_t>(to - from));
    }
  }
  /// The number that follows "name": in the header.
  double number(const std::string& name) const {
    const size_t at = header.find(name + "\\\":");
    return at == std::string::npos ? -1 : std::strtod(&header[at + name.size() + 3], nullptr);
  }
};

struct FixtureCase {
  const char* name;
  int64_t height, width, context_tokens;
  bool qk_norm;
  std::vector<int64_t> dual;
  double loss;
  const char* gradients;
};
const FixtureCase kCases[] = {
    // as in manifest.json there
    {"sd35-large-like", 8, 12, 11, true, {}, 3.3978099182567707, "grads-sampled"},
    {"sd35-medium-like", 8, 8, 9, true, {0}, 3.9054365613974524, "grads"},
    {"sd3-medium-like", 6, 10, 7, false, {}, 3.5803803372315226, "grads-sampled"},
};

std::string folder() {
  if (const char* given = std::getenv("ORCHESTRATOR_FIXTURES")) return std::string(given) + "/";
  for (const char* up : {"", "../"}) {
    const std::string path = std::string(up) + "test/fixtures/mmdit/";
    struct stat s;
    if (stat(path.c_str(), &s) == 0) return path;
  }
  return "";
}

double norm(const std::vector<float>& v) {
  double sum = 0;
  for (float x : v) sum += static_cast<double>(x) * x;
  return std::sqrt(sum);
}

CaseResult result_of(Engine& e, const Tensors& weights, const RawBatch& batch,
                     const std::vector<float>& target) {
  return on_driver(e, [&] {
    for (const Parameter& p : e.table().parameters) {
      const auto& v = weights.values.at("model.diffusion_model." + p.name);
      std::copy(v.begin(), v.end(), e.state(State::Master) + p.offset);
    }
    const auto& positions = weights.values.at("model.diffusion_model.pos_embed");
    std::copy(positions.begin(), positions.end(), e.positions());
    e.parameters_changed();
    return e.evaluate_case(batch, target, true);
  });
}

void check_result(const CaseResult& r, const FixtureCase& c, const Tensors& input, const Tensors& want,
                  DType t, const std::string& at) {
  const bool single = t == DType::F32, sampled = std::strcmp(c.gradients, "grads") != 0;
  const auto& velocity = input.values.at("velocity");
  CHECK_CLOSE(relative_error(r.velocity, velocity, static_cast<int64_t>(velocity.size())),
              single ? 2e-5 : 0.013, at);
  CHECK_CLOSE(std::abs(r.loss / c.loss - 1), single ? 2e-5 : 0.013, at);
  std::vector<double> errors;
  for (const auto& [name, gradient] : r.gradients) {
    const std::string key = (name.rfind("input.", 0) == 0 ? "" : "model.diffusion_model.") + name;
    const auto found = want.values.find(key);
    if (found == want.values.end()) {
      CHECK(false, at, ": no gradient of ", key);
      continue;
    }
    const auto& expected = found->second;
    std::vector<float> mine = gradient;
    if (sampled && mine.size() > 2048) {
      for (size_t i = 0; i < expected.size(); ++i) mine[i] = gradient[37 * i];
      mine.resize(expected.size());
    }
    const double whole = sampled ? want.number(key) : norm(expected);
    if (whole == 0) {
      CHECK(norm(gradient) == 0, at, ": ", key, " must be zero");
      continue;
    }
    const double error = std::max(relative_error(mine, expected, static_cast<int64_t>(expected.size())),
                                  std::abs(norm(gradient) / whole - 1));
    const bool head_norm = key.find(".ln_q.") != std::string::npos || key.find(".ln_k.") != std::string::npos;
    if (single) CHECK_CLOSE(error, head_norm ? 1e-4 : 5e-5, at, ": ", key);
    errors.push_back(error);
  }
  CHECK(errors.size() > 50, at);
  std::sort(errors.begin(), errors.end());
  if (!single) {
    CHECK_CLOSE(errors[errors.size() / 2], 0.023, at, ": median of the gradients");
    CHECK_CLOSE(errors.back(), 0.07, at, ": worst of the gradients");
  }
  if (std::getenv("ORCHESTRATOR_TEST_VERBOSE"))
    std::printf("  %s: gradients median %.2e, worst %.2e\n", at.c_str(), errors[errors.size() / 2],
                errors.back());
}

TEST("device: MM-DiT cases of the original implementation") {
  const std::string from = folder();
  if (from.empty())
    return skip("test/fixtures/mmdit is neither here nor a folder up; ORCHESTRATOR_FIXTURES names it");
  // The emulated GPU is the same C++ on every processor.
  const bool cpu_only = std::getenv("ORCHESTRATOR_TEST_SMALL") != nullptr;
  for (const FixtureCase& c : kCases) {
    const Tensors weights(from + c.name + ".weights.safetensors"), input(from + c.name + ".case.safetensors"),
        want(from + c.name + "." + c.gradients + ".safetensors");
    const ModelSpec model{2, 2, 2, 16, 64, 32, 16, c.qk_norm, c.dual};
    const auto& in = input.values;
    RawBatch batch{in.at("z_t"), in.at("t"), in.at("context"), in.at("pooled")};
    for (float& time : batch.timestep) time *= 1000;
    std::vector<float> target = in.at("eps");
    for (size_t i = 0; i < target.size(); ++i) target[i] -= in.at("x0")[i];
    for (DType t : {DType::F32, DType::BF16})
      for (Recompute recompute : {Recompute::Nothing, Recompute::Block}) {
        const EngineSpec spec{model,    {2, c.height, c.width, c.context_tokens}, t, t, 1, false, false,
                              recompute};
        const std::string at = text(c.name, ", ", name_of(t), ", recompute ", static_cast<int>(recompute));
        {
          Engine e(spec);
          check_result(result_of(e, weights, batch, target), c, input, want, t, "cpu, " + at);
        }
        for (const TestedDevice& d : devices()) {
          if (cpu_only && !d.real) continue;
          Engine e(spec, d.device);
          check_result(result_of(e, weights, batch, target), c, input, want, t, text(d.name, ", ", at));
        }
      }
  }
}

}  // namespace
}  // namespace orch::test
