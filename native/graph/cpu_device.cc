#include <cstring>

#include "../core/clock.h"
#include "../core/error.h"
#include "device.h"

namespace orch::graph {
namespace {

class CpuDevice final : public Device {
 public:
  const kernels::Table& kernels() const override { return cpu_backend().kernels(); }
  bool sums_with(const MatmulSpec& spec) const override { return cpu_backend().sums_with(spec); }
  std::unique_ptr<Op> matmul(const char* name, const MatmulSpec& spec) const override {
    return cpu_backend().matmul(name, spec);
  }
  Description describe() const override { return {"CPU", kernels().isa, 0, ""}; }
  bool is_cpu() const override { return true; }

  Buffer allocate(size_t bytes) override { return Buffer(bytes); }
  void copy(void* to, const void* from, size_t bytes) override {
    if (to != from && bytes > 0) std::memcpy(to, from, bytes);
  }
  void fill(void* to, int byte, size_t bytes) override {
    if (bytes > 0) std::memset(to, byte, bytes);
  }
  std::function<void()> record(const std::function<void()>& work) override { return work; }
  double time(const std::function<void()>& work) override {
    const double start = thread_seconds();
    work();
    return thread_seconds() - start;
  }
  std::string rendezvous(bool) override { refuse(); }
  std::unique_ptr<Transport> connect(const std::string&, int, int) override { refuse(); }

 private:
  [[noreturn]] static void refuse() {
    throw Error("ERR_CUDA", "An engine on the CPU cannot be connected to GPUs");
  }
};

}  // namespace

Device& cpu_device() {
  static CpuDevice device;
  return device;
}

}  // namespace orch::graph
