// AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019).
#pragma once
#include "../core/anywhere.h"
#include "update.h"

namespace orch::optim {

struct AdamW {
  static constexpr const char* kName = "adamw";
  static constexpr const char* kMoments[] = {"m", "v"};

  /// V: float, or a vector of equal floats.
  template <class V>
  struct Factors {
    V beta1, one_minus_beta1, beta2, one_minus_beta2;
    V keep;        ///< 1 - lr * weight_decay
    V step, root;  ///< lr / (1 - beta1^step), 1 / sqrt(1 - beta2^step)
    V eps;
  };
  static Factors<float> factors(const UpdateRequest& request);

  /// w -= lr * (m / c1 / (sqrt(v / c2) + eps) + decay * w), with the bias corrections c1 and c2
  template <class V, class Sqrt>
  __attribute__((always_inline)) ORCH_ANYWHERE static void update(V& w, V (&moments)[2], V g,
                                                                  const Factors<V>& c, Sqrt sqrt) {
    V &m = moments[0], &v = moments[1];
    m = c.beta1 * m + c.one_minus_beta1 * g;
    v = c.beta2 * v + c.one_minus_beta2 * (g * g);
    w = w * c.keep - c.step * m / (sqrt(v) * c.root + c.eps);
  }
};

}  // namespace orch::optim
