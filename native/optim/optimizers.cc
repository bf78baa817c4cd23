#include "optimizers.h"

#include <cstring>

#include "../core/error.h"

namespace orch::optim {
namespace {

template <class Rule>
Update update_of(const UpdateRequest& request) {
  const auto factors = Rule::factors(request);
  static_assert(sizeof factors <= sizeof Update::rule);
  Update update{static_cast<float>(request.grad_scale),
                static_cast<float>(request.ema_decay),
                static_cast<float>(1 - request.ema_decay),
                {}};
  std::memcpy(update.rule, &factors, sizeof factors);
  return update;
}

std::vector<Optimizer> describe() {
  std::vector<Optimizer> all;
  each_rule([&]<class Rule>(int index) {
    all.push_back(
        {Rule::kName, index, {std::begin(Rule::kMoments), std::end(Rule::kMoments)}, update_of<Rule>});
  });
  return all;
}

}  // namespace

const Optimizer& named(const std::string& name) {
  static const std::vector<Optimizer> all = describe();
  std::string names;
  for (const Optimizer& o : all) {
    if (o.name == name) return o;
    names += (names.empty() ? "" : ", ") + o.name;
  }
  throw Error("ERR_MODEL_SPEC", "There is no optimizer ", name, "; there are: ", names);
}

}  // namespace orch::optim
