// Conversion between JavaScript and C++ values. Types are checked here: a wrong one throws
// ERR_NATIVE_ARGUMENT, which names the property.
#pragma once
#include <napi.h>

#include <cmath>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "../core/dtype.h"
#include "promise.h"

namespace orch::addon {

[[noreturn]] inline void wrong(Napi::Env env, const std::string& what, const std::string& expected) {
  throw to_js(env, "ERR_NATIVE_ARGUMENT", "Expected " + expected + " for " + what);
}

inline double number(const Napi::Object& o, const char* name) {
  Napi::Value v = o.Get(name);
  if (!v.IsNumber()) wrong(o.Env(), name, "a number");
  return v.As<Napi::Number>().DoubleValue();
}
/// An integer that a double represents exactly. NaN is rejected, because its conversion is undefined in C++.
inline int64_t integer(const Napi::Value& value, const char* name) {
  const double v = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
  if (!(std::abs(v) <= 9007199254740991.0) || v != std::floor(v)) wrong(value.Env(), name, "an integer");
  return static_cast<int64_t>(v);
}
inline int64_t integer(const Napi::Object& o, const char* name) { return integer(o.Get(name), name); }
/// One from `low` to `high`.
inline int64_t integer(const Napi::Value& value, const char* name, int64_t low, int64_t high) {
  const int64_t v = integer(value, name);
  if (v < low || v > high)
    wrong(value.Env(), name, "an integer from " + std::to_string(low) + " to " + std::to_string(high));
  return v;
}
inline int64_t integer(const Napi::Object& o, const char* name, int64_t low, int64_t high) {
  return integer(o.Get(name), name, low, high);
}
inline bool boolean(const Napi::Object& o, const char* name) {
  Napi::Value v = o.Get(name);
  if (!v.IsBoolean()) wrong(o.Env(), name, "a boolean");
  return v.As<Napi::Boolean>().Value();
}
inline std::string string(const Napi::Object& o, const char* name) {
  Napi::Value v = o.Get(name);
  if (!v.IsString()) wrong(o.Env(), name, "a string");
  return v.As<Napi::String>().Utf8Value();
}
/// The most threads of an engine, as in the schema of configurations.
constexpr int64_t kMostThreads = 4096;
/// The value of the alternative that a string names.
template <class T>
T one_of(const Napi::Value& v, const char* name,
         std::initializer_list<std::pair<const char*, T>> alternatives) {
  std::string names;
  for (const auto& [known, value] : alternatives) {
    if (v.IsString() && v.As<Napi::String>().Utf8Value() == known) return value;
    names += (names.empty() ? "" : " or ") + std::string(known);
  }
  wrong(v.Env(), name, names);
}
/// A type in which the engine computes.
inline DType precision(const Napi::Value& v, const char* name) {
  return one_of<DType>(v, name, {{"fp32", DType::F32}, {"bf16", DType::BF16}});
}
inline Napi::Object object(const Napi::Value& v, const char* name) {
  if (!v.IsObject()) wrong(v.Env(), name, "an object");
  return v.As<Napi::Object>();
}
inline Napi::Array array(const Napi::Object& o, const char* name) {
  Napi::Value v = o.Get(name);
  if (!v.IsArray()) wrong(o.Env(), name, "an array");
  return v.As<Napi::Array>();
}
inline uint64_t bigint(const Napi::Value& v, const char* name) {
  if (!v.IsBigInt()) wrong(v.Env(), name, "a bigint");
  bool lossless = false;
  const uint64_t out = v.As<Napi::BigInt>().Uint64Value(&lossless);
  if (!lossless) wrong(v.Env(), name, "a bigint of 64 bits without sign");
  return out;
}

/// A typed array of T, which is float, double or uint8_t.
template <class T>
Napi::TypedArrayOf<T> typed_array(const Napi::Value& v, const char* name) {
  constexpr napi_typedarray_type type = std::is_same_v<T, float>    ? napi_float32_array
                                        : std::is_same_v<T, double> ? napi_float64_array
                                                                    : napi_uint8_array;
  if (!v.IsTypedArray() || v.As<Napi::TypedArray>().TypedArrayType() != type)
    wrong(v.Env(), name, "a typed array of another element type");
  return v.As<Napi::TypedArrayOf<T>>();
}
template <class T>
std::vector<T> copy(const Napi::Object& o, const char* name) {
  auto a = typed_array<T>(o.Get(name), name);
  return {a.Data(), a.Data() + a.ElementLength()};
}
/// Copies the integers of a Float64Array.
template <class T>
std::vector<T> integers(const Napi::TypedArrayOf<double>& a, const char* name) {
  std::vector<T> out(a.ElementLength());
  for (size_t i = 0; i < out.size(); ++i) {
    const double v = a[i];
    if (!(v >= 0 && v <= 9007199254740991.0) || v != std::floor(v)) wrong(a.Env(), name, "whole numbers");
    out[i] = static_cast<T>(v);
  }
  return out;
}
template <class T>
std::vector<T> copy_integers(const Napi::Object& o, const char* name) {
  return integers<T>(typed_array<double>(o.Get(name), name), name);
}

// Results as JavaScript values: booleans, numbers, strings, values that may be absent (null), typed arrays of
// float and double, arrays of anything else.

template <class T>
requires std::is_arithmetic_v<T> Napi::Value to_value(Napi::Env env, T v) {
  if constexpr (std::is_same_v<T, bool>)
    return Napi::Boolean::New(env, v);
  else
    return Napi::Number::New(env, static_cast<double>(v));
}
inline Napi::Value to_value(Napi::Env env, const std::string& v) { return Napi::String::New(env, v); }
inline Napi::Value to_value(Napi::Env env, const char* v) { return Napi::String::New(env, v); }
inline Napi::Value to_value(Napi::Env, Napi::Value v) { return v; }
template <class T>
Napi::Value to_value(Napi::Env env, const std::optional<T>& v) {
  return v ? to_value(env, *v) : env.Null();
}
template <class T>
Napi::Value to_value(Napi::Env env, const std::vector<T>& v) {
  if constexpr (std::is_floating_point_v<T>) {
    auto a = Napi::TypedArrayOf<T>::New(env, v.size());
    std::copy(v.begin(), v.end(), a.Data());
    return a;
  } else {
    auto a = Napi::Array::New(env, v.size());
    for (size_t i = 0; i < v.size(); ++i) a[i] = to_value(env, v[i]);
    return a;
  }
}

/// Converts what the work of a promise returned; nothing is undefined.
struct Converted {
  template <class R>
  Napi::Value operator()(Napi::Env env, const R& result) const {
    if constexpr (std::is_same_v<R, Nothing>)
      return env.Undefined();
    else
      return to_value(env, result);
  }
};

/// A property of record(), which converts its value; both must be in one expression.
struct Field {
  template <class T>
  Field(const char* n, const T& v) : name(n), value([&v](Napi::Env env) { return to_value(env, v); }) {}
  const char* name;
  std::function<Napi::Value(Napi::Env)> value;
};
/// An object of these properties.
inline Napi::Value record(Napi::Env env, std::initializer_list<Field> fields) {
  auto o = Napi::Object::New(env);
  for (const Field& f : fields) o.Set(f.name, f.value(env));
  return o;
}

}  // namespace orch::addon
