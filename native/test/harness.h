// A small test runner: TEST(name) { ... CHECK(...); } registers itself; main.cc runs the tests named on the
// command line.
#pragma once
#include <cmath>
#include <cstdint>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "../core/error.h"

namespace orch::test {

struct Case {
  std::string name;
  std::function<void()> body;
};

std::vector<Case>& cases();

/// Records a failure of the running test and prints it with its location.
void fail(const char* file, int line, const std::string& message);
/// Marks the running test as skipped, with a reason.
void skip(const std::string& reason);

struct Registrar {
  Registrar(std::string name, std::function<void()> body) {
    cases().push_back({std::move(name), std::move(body)});
  }
};

template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream s;
  s.precision(9);
  (s << ... << parts);
  return s.str();
}

/// ||got - want|| / ||want|| over n elements; infinity if `got` has a NaN. 0/0 is 0.
template <class Got, class Want>
double relative_error(const Got& got, const Want& want, int64_t n) {
  double difference = 0, norm = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double e = static_cast<double>(got[i]) - static_cast<double>(want[i]);
    difference += e * e;
    norm += static_cast<double>(want[i]) * static_cast<double>(want[i]);
  }
  if (!(difference >= 0)) return INFINITY;
  if (difference == 0) return 0;
  return norm == 0 ? INFINITY : std::sqrt(difference / norm);
}

}  // namespace orch::test

#define ORCH_TEST_JOIN2(a, b) a##b
#define ORCH_TEST_JOIN(a, b) ORCH_TEST_JOIN2(a, b)
#define TEST(name)                                                                \
  static void ORCH_TEST_JOIN(test_body_, __LINE__)();                             \
  static const ::orch::test::Registrar ORCH_TEST_JOIN(test_registrar_, __LINE__)( \
      name, ORCH_TEST_JOIN(test_body_, __LINE__));                                \
  static void ORCH_TEST_JOIN(test_body_, __LINE__)()

/// CHECK(condition, parts of a message...)
#define CHECK(condition, ...)                                                              \
  do {                                                                                     \
    if (!(condition)) {                                                                    \
      ::orch::test::fail(__FILE__, __LINE__,                                               \
                         ::orch::test::text(#condition __VA_OPT__(, ": ", ) __VA_ARGS__)); \
    }                                                                                      \
  } while (false)

/// CHECK_CLOSE(error, bound, parts of a message...): error <= bound; a NaN fails.
#define CHECK_CLOSE(error, bound, ...)                                                      \
  do {                                                                                      \
    const double check_error = (error), check_bound = (bound);                              \
    if (!(check_error <= check_bound)) {                                                    \
      ::orch::test::fail(__FILE__, __LINE__,                                                \
                         ::orch::test::text(#error, " is ", check_error, ", bound ",        \
                                            check_bound __VA_OPT__(, ": ", ) __VA_ARGS__)); \
    }                                                                                       \
  } while (false)

namespace orch::test {

/// Checks that `body` throws orch::Error with this code and that its message contains `part`.
inline void check_throws(const char* code, const char* part, const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& e) {
    CHECK(e.code() == code, "expected ", code, ", got ", e.code(), ": ", e.what());
    CHECK(std::string(e.what()).find(part) != std::string::npos, "\"", part, "\" is not in: ", e.what());
    return;
  }
  CHECK(false, "expected ", code, ", nothing was thrown");
}

}  // namespace orch::test
