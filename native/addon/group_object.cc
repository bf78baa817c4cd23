// A group of workers as a JavaScript object.
#include "../engine/group.h"
#include "convert.h"
#include "objects.h"

namespace orch::addon {
namespace {
constexpr napi_type_tag kTag{0x6f7263682d67726full, 0x75702d7b93d5ae41ull};
}

Napi::Value create_group(const Napi::CallbackInfo& info) {
  auto group = std::make_shared<Group>();
  auto o = Napi::Object::New(info.Env());
  o.Set("native", tagged(info.Env(), kTag, group));
  o.Set("address", group->address());
  method(o, "form", [group](const Napi::CallbackInfo& info) -> Napi::Value {
    if (!info[0].IsArray()) wrong(info.Env(), "the addresses", "an array");
    auto list = info[0].As<Napi::Array>();
    std::vector<std::string> addresses;
    for (uint32_t i = 0; i < list.Length(); ++i) addresses.push_back(list.Get(i).ToString());
    const int rank = static_cast<int>(integer(info[1], "the rank", 0, Group::kMaxMembers - 1));
    const int64_t generation = integer(info[2], "the generation", 1, int64_t{1} << 53);
    group->form(addresses, rank, static_cast<uint64_t>(generation));
    return info.Env().Undefined();
  });
  method(o, "abort", [group](const Napi::CallbackInfo& info) -> Napi::Value {
    group->abort();
    return info.Env().Undefined();
  });
  return o;
}

std::shared_ptr<Group> group_of(const Napi::Value& v) { return untagged<Group>(v, kTag, "a group"); }

}  // namespace orch::addon
