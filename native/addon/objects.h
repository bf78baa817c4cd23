// What the addon exports: an engine and a dataset as plain objects whose functions hold their native side
// themselves, so that no `this` can be mistaken; and a tagged handle for passing one to the other.
#pragma once
#include <napi.h>

#include <memory>

#include "../data/dataset.h"
#include "../engine/group.h"

namespace orch::addon {

Napi::Value create_engine(const Napi::CallbackInfo& info);
Napi::Value plan_figures(const Napi::CallbackInfo& info);
Napi::Value plan_operations(const Napi::CallbackInfo& info);
Napi::Value create_group(const Napi::CallbackInfo& info);
Napi::Value open_dataset(const Napi::CallbackInfo& info);
Napi::Value check_list_offsets(const Napi::CallbackInfo& info);
Napi::Object elementary_functions(Napi::Env env);

/// The dataset behind a JavaScript object made by open_dataset; throws ERR_HANDLE for any other, or a closed
/// one.
std::shared_ptr<const Dataset> dataset_of(const Napi::Value& v);

/// The group behind a JavaScript object made by create_group; throws ERR_HANDLE for any other.
std::shared_ptr<Group> group_of(const Napi::Value& v);

/// A native object for the property "native" of a JavaScript object, and back. The tag keeps one kind from
/// being taken for another.
template <class T>
Napi::Value tagged(Napi::Env env, const napi_type_tag& tag, std::shared_ptr<T> native);
template <class T>
std::shared_ptr<T> untagged(const Napi::Value& object, const napi_type_tag& tag, const char* what);

/// A function. F: Napi::Value(const Napi::CallbackInfo&). Native errors become JavaScript's.
template <class F>
Napi::Function function(Napi::Env env, const char* name, F f);
/// Defines object[name] as one.
template <class F>
void method(Napi::Object object, const char* name, F f);

}  // namespace orch::addon

#include "promise.h"

template <class T>
Napi::Value orch::addon::tagged(Napi::Env env, const napi_type_tag& tag, std::shared_ptr<T> native) {
  auto external = Napi::External<std::shared_ptr<T>>::New(env, new std::shared_ptr<T>(std::move(native)),
                                                          [](Napi::Env, std::shared_ptr<T>* p) { delete p; });
  external.TypeTag(&tag);
  return external;
}

template <class T>
std::shared_ptr<T> orch::addon::untagged(const Napi::Value& object, const napi_type_tag& tag,
                                         const char* what) {
  if (object.IsObject()) {
    const Napi::Value native = object.As<Napi::Object>().Get("native");
    if (native.IsExternal()) {
      auto external = native.As<Napi::External<std::shared_ptr<T>>>();
      if (external.CheckTypeTag(&tag)) return *external.Data();
    }
  }
  throw Error("ERR_HANDLE", std::string("Expected ") + what);
}

template <class F>
Napi::Function orch::addon::function(Napi::Env env, const char* name, F f) {
  return Napi::Function::New(
      env,
      [f](const Napi::CallbackInfo& info) -> Napi::Value {
        return guarded(info.Env(), [&] { return Napi::Value(f(info)); });
      },
      name);
}

template <class F>
void orch::addon::method(Napi::Object object, const char* name, F f) {
  object.Set(name, function(object.Env(), name, std::move(f)));
}
