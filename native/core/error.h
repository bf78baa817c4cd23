// Errors that cross the boundary to JavaScript: a stable code and one sentence. The addon turns them into
// JavaScript errors.
#pragma once
#include <stdexcept>
#include <string>

namespace orch {

class Error : public std::runtime_error {
 public:
  /// @param code stable, upper-case, documented under docs/ (ERR_TENSOR_SHAPE, ERR_FILE_TRUNCATED, ...)
  Error(std::string code, const std::string& message) : std::runtime_error(message), code_(std::move(code)) {}
  const std::string& code() const { return code_; }

 private:
  std::string code_;
};

}  // namespace orch
