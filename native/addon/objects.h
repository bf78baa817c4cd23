// What the addon exports: an engine and a dataset as plain objects whose functions hold their native side
// themselves, so that no `this` can be mistaken; and a tagged handle for passing one to the other.
#pragma once
#include <napi.h>

#include "../data/dataset.h"

namespace orch::addon {

Napi::Value create_engine(const Napi::CallbackInfo& info);
Napi::Value plan_figures(const Napi::CallbackInfo& info);
Napi::Value open_dataset(const Napi::CallbackInfo& info);
Napi::Value check_list_offsets(const Napi::CallbackInfo& info);

/// The dataset behind a JavaScript object made by open_dataset; throws ERR_HANDLE for any other, or a closed
/// one.
std::shared_ptr<const Dataset> dataset_of(const Napi::Value& v);

/// Defines object[name] as a function. F: Napi::Value(const Napi::CallbackInfo&). Native errors become
/// JavaScript's.
template <class F>
void method(Napi::Object object, const char* name, F f);

}  // namespace orch::addon

#include "promise.h"

template <class F>
void orch::addon::method(Napi::Object object, const char* name, F f) {
  object.Set(name, Napi::Function::New(
                       object.Env(),
                       [f](const Napi::CallbackInfo& info) -> Napi::Value {
                         return guarded(info.Env(), [&] { return Napi::Value(f(info)); });
                       },
                       name));
}
