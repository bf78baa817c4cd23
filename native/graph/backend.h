// Where a graph runs: the kernels of its nodes and its matmuls. The default is the CPU. A device has the same
// table of kernels; its functions enqueue work on the device's stream and return.
#pragma once
#include <memory>
#include <string>

#include "../core/dtype.h"
#include "../kernels/kernels.h"

namespace orch::graph {

struct Op;

using kernels::Epilogue;
using kernels::MatmulSpec;

/// The name of a product in files, such as "18848x6144x1536,BF16,BF16,nt,bias".
inline std::string key_of(const MatmulSpec& s) {
  const auto letter = [](bool transposed) { return transposed ? 't' : 'n'; };
  std::string key = std::to_string(s.m) + "x" + std::to_string(s.n) + "x" + std::to_string(s.k) + "," +
                    name_of(s.a) + "," + name_of(s.c) + ",";
  key += letter(s.transpose_a);
  key += letter(s.transpose_b);
  if (s.bias) key += s.bias_type == DType::F32 ? ",bias" : std::string(",bias-") + name_of(s.bias_type);
  if (s.accumulate) key += ",add";
  if (s.sums) key += ",sums";
  if (s.epilogue == Epilogue::Gelu) key += ",gelu";
  if (s.epilogue == Epilogue::GeluKeep) key += ",gelu-keep";
  if (s.epilogue == Epilogue::GeluBackward) key += ",gelu-backward";
  return key;
}

class Backend {
 public:
  virtual ~Backend() = default;
  virtual const kernels::Table& kernels() const = 0;
  /// The type in which matmul() reads the bias of a product.
  virtual DType bias_type(const MatmulSpec&) const { return DType::F32; }
  /// Whether matmul() supports a product with sums.
  virtual bool sums_with(const MatmulSpec&) const { return false; }
  /// Whether a product computes its epilogue. If not, the operation that it stands for is a pass of its own.
  virtual bool fuses(const MatmulSpec&) const { return false; }
  /// Why matmul() supports no operands of 8-bit floats, or an empty string.
  virtual std::string float8_problem() const { return "the CPU has no matmuls of 8-bit floats"; }
  /// An operation with inputs A, B, the bias (or none), and x of Epilogue::GeluBackward or, of 8-bit floats,
  /// the scales of A and B (one fp32 number each); and outputs C and the sums, or the second output of
  /// Epilogue::GeluKeep.
  virtual std::unique_ptr<Op> matmul(const char* name, const MatmulSpec& spec) const = 0;
};

/// The kernels of this processor.
const Backend& cpu_backend();

}  // namespace orch::graph
