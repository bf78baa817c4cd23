// orch_test [--list] [--exact] [PART OF A NAME]...: runs every test whose name contains one of the parts
// (with --exact: whose name is one of them), or all tests, and prints the time of each. orch_test --isas: the
// instruction sets of this machine, best first.
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>

#include "harness.h"
#include "kernels/kernels.h"

namespace orch::test {

namespace {
int failures = 0;
std::string skipped;
}  // namespace

std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

void fail(const char* file, int line, const std::string& message) {
  // A wrong kernel is usually wrong everywhere: the first few locations are enough.
  constexpr int kShown = 8;
  if (failures < kShown) std::printf("  %s:%d: %s\n", file, line, message.c_str());
  if (failures == kShown) std::printf("  ... more failures of this test are not shown\n");
  ++failures;
}

void skip(const std::string& reason) { skipped = reason; }

}  // namespace orch::test

int main(int argc, char** argv) {
  using namespace orch::test;
  bool list = false, exact = false;
  std::vector<std::string> parts;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--list") == 0) {
      list = true;
    } else if (std::strcmp(argv[i], "--exact") == 0) {
      exact = true;
    } else if (std::strcmp(argv[i], "--isas") == 0) {
      for (const char* name : orch::kernels::cpu_names()) std::printf("%s\n", name);
      return 0;
    } else {
      parts.push_back(argv[i]);
    }
  }
  int passed = 0, failed = 0, without = 0;
  for (const Case& c : cases()) {
    bool wanted = parts.empty();
    for (const std::string& part : parts) {
      wanted |= exact ? c.name == part : c.name.find(part) != std::string::npos;
    }
    if (!wanted) continue;
    if (list) {
      std::printf("%s\n", c.name.c_str());
      continue;
    }
    failures = 0;
    skipped.clear();
    const auto started = std::chrono::steady_clock::now();
    try {
      c.body();
    } catch (const std::exception& e) {
      fail(c.name.c_str(), 0, std::string("threw: ") + e.what());
    }
    // test/native/native.test.ts reads the lines of skipped tests.
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
    if (failures > 0) {
      ++failed;
      std::printf("FAIL %s (%d failures, %.2f s)\n", c.name.c_str(), failures, seconds);
    } else if (!skipped.empty()) {
      ++without;
      std::printf("skip %s [%s]\n", c.name.c_str(), skipped.c_str());
    } else {
      ++passed;
      std::printf("ok   %s (%.2f s)\n", c.name.c_str(), seconds);
    }
    std::fflush(stdout);
  }
  if (list) return 0;
  if (passed + failed + without == 0) std::printf("no test has such a name\n");
  if (without > 0) std::printf("%d skipped\n", without);
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed > 0 || passed + without == 0 ? 1 : 0;
}
