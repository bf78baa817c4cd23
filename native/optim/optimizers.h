// The optimizers. To add one, write its rule in files like adamw.h and adamw.cc, and add it to All: kernels
// of every instruction set and device, the engine's state and its checkpoints follow.
#pragma once
#include <string>
#include <vector>

#include "adamw.h"

namespace orch::optim {

template <class... Rules>
struct List {
  static constexpr int kCount = sizeof...(Rules);
};
using All = List<AdamW>;

/// Calls f.operator()<Rule>(index) for every optimizer.
template <class F>
void each_rule(const F& f) {
  int index = 0;
  [&]<class... Rules>(List<Rules...>) { (f.template operator()<Rules>(index++), ...); }(All{});
}

template <class Rule>
constexpr int kMomentsOf = sizeof(Rule::kMoments) / sizeof(Rule::kMoments[0]);

struct Optimizer {
  std::string name;                  ///< "adamw"
  int index;                         ///< of its kernel (kernels::Untyped::update)
  std::vector<std::string> moments;  ///< names of its state: "m", "v"
  Update (*update)(const UpdateRequest& request);
};

/// Throws Error(ERR_MODEL_SPEC) if there is none of this name.
const Optimizer& named(const std::string& name);

}  // namespace orch::optim
