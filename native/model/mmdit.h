// The MM-DiT of SD3 and SD3.5 (paper, section 4; docs/guide/model.md).
#pragma once
#include "model.h"

namespace orch {

extern const Backbone kMmdit;

}  // namespace orch
