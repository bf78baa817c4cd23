// The objects that the addon exports. An engine and a dataset are plain objects whose functions hold the
// native object themselves, so that a wrong `this` does no harm; a tagged handle passes one to the other.
#pragma once
#include <napi.h>

#include <memory>

#include "../data/dataset.h"
#include "../engine/group.h"
#include "promise.h"

namespace orch::addon {

Napi::Value create_engine(const Napi::CallbackInfo& info);
Napi::Value create_group(const Napi::CallbackInfo& info);
Napi::Value map_dataset(const Napi::CallbackInfo& info);
Napi::Object elementary_functions(Napi::Env env);

/// The dataset of a JavaScript object made by map_dataset. Throws Error(ERR_HANDLE) for any other object, or
/// if it is closed.
std::shared_ptr<const Dataset> dataset_of(const Napi::Value& v);

/// The group of a JavaScript object made by create_group. Throws Error(ERR_HANDLE) for any other object.
std::shared_ptr<Group> group_of(const Napi::Value& v);

/// Wraps a native object for the property "native" of a JavaScript object, and unwraps it. The tag prevents
/// an object of one kind from being taken for another.
template <class T>
Napi::Value tagged(Napi::Env env, const napi_type_tag& tag, std::shared_ptr<T> native) {
  auto external = Napi::External<std::shared_ptr<T>>::New(env, new std::shared_ptr<T>(std::move(native)),
                                                          [](Napi::Env, std::shared_ptr<T>* p) { delete p; });
  external.TypeTag(&tag);
  return external;
}
template <class T>
std::shared_ptr<T> untagged(const Napi::Value& object, const napi_type_tag& tag, const char* what) {
  if (object.IsObject()) {
    const Napi::Value native = object.As<Napi::Object>().Get("native");
    if (native.IsExternal()) {
      auto external = native.As<Napi::External<std::shared_ptr<T>>>();
      if (external.CheckTypeTag(&tag)) return *external.Data();
    }
  }
  throw Error("ERR_HANDLE", std::string("Expected ") + what);
}

/// Creates a function. F: Napi::Value(const Napi::CallbackInfo&). Native errors become JavaScript errors.
template <class F>
Napi::Function function(Napi::Env env, const char* name, F f) {
  return Napi::Function::New(
      env,
      [f](const Napi::CallbackInfo& info) -> Napi::Value {
        return guarded(info.Env(), [&] { return Napi::Value(f(info)); });
      },
      name);
}
/// Defines object[name] as such a function.
template <class F>
void method(Napi::Object object, const char* name, F f) {
  object.Set(name, function(object.Env(), name, std::move(f)));
}

}  // namespace orch::addon
