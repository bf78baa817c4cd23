// Errors that cross the boundary to JavaScript: a stable code and one sentence. The addon turns them into
// JavaScript errors.
#pragma once
#include <stdexcept>
#include <string>
#include <type_traits>

namespace orch {

class Error : public std::runtime_error {
 public:
  /// @param code stable, upper-case, documented under docs/ (ERR_TENSOR_SHAPE, ERR_FILE_TRUNCATED, ...)
  /// @param parts the message: strings and numbers, one after the other
  template <class... Parts>
  explicit Error(std::string code, const Parts&... parts)
      : std::runtime_error((std::string() + ... + text(parts))), code_(std::move(code)) {}
  const std::string& code() const { return code_; }

 private:
  template <class Part>
  static std::string text(const Part& part) {
    if constexpr (std::is_arithmetic_v<Part>)
      return std::to_string(part);
    else
      return std::string(part);
  }
  std::string code_;
};

}  // namespace orch
