// Elementary functions for JavaScript, whose own differ between engines.
#include "../core/elementary.h"

#include "../model/model.h"
#include "convert.h"
#include "objects.h"

namespace orch::addon {
namespace {

double argument(const Napi::CallbackInfo& info, size_t i) {
  if (!info[i].IsNumber()) wrong(info.Env(), "argument " + std::to_string(i + 1), "a number");
  return info[i].As<Napi::Number>().DoubleValue();
}
int64_t exponent(const Napi::CallbackInfo& info) {
  const double n = argument(info, 1);
  if (!(n >= 0 && n <= 9007199254740991.0) || n != std::floor(n))
    wrong(info.Env(), "the exponent", "a whole number");
  return static_cast<int64_t>(n);
}

void function(Napi::Object o, const char* name, double (*f)(double)) {
  method(o, name, [f](const auto& info) { return Napi::Number::New(info.Env(), f(argument(info, 0))); });
}
void function(Napi::Object o, const char* name, double (*f)(double, double)) {
  method(o, name, [f](const auto& info) {
    return Napi::Number::New(info.Env(), f(argument(info, 0), argument(info, 1)));
  });
}
void function(Napi::Object o, const char* name, double (*f)(double, int64_t)) {
  method(o, name, [f](const auto& info) {
    return Napi::Number::New(info.Env(), f(argument(info, 0), exponent(info)));
  });
}

Napi::Value normal_pairs(const Napi::CallbackInfo& info) {
  auto values = typed_array<double>(info[0], "values");
  if (values.ElementLength() % 2) wrong(info.Env(), "values", "an even number of elements");
  double* v = values.Data();
  for (size_t i = 0; i < values.ElementLength(); i += 2)
    elementary::normal_pair(v[i], v[i + 1], v[i], v[i + 1]);
  return info.Env().Undefined();
}

Napi::Value encode(const Napi::CallbackInfo& info) {
  auto coordinates = typed_array<double>(info[0], "coordinates");
  const double quarter = argument(info, 1);
  if (!(quarter >= 1 && quarter <= 65536) || quarter != std::floor(quarter))
    wrong(info.Env(), "quarter", "a whole number from 1 to 65536");
  const size_t count = coordinates.ElementLength(), width = 2 * static_cast<size_t>(quarter);
  if (count * width > size_t{1} << 28)
    wrong(info.Env(), "coordinates", "fewer, so that there are at most 2^28 results,");
  auto codes = Napi::Float32Array::New(info.Env(), count * width);
  encode_positions(coordinates.Data(), static_cast<int64_t>(count), static_cast<int64_t>(quarter),
                   codes.Data());
  return codes;
}

}  // namespace

Napi::Object elementary_functions(Napi::Env env) {
  auto o = Napi::Object::New(env);
  function(o, "exp", elementary::exp);
  function(o, "log", elementary::log);
  function(o, "sin", elementary::sin);
  function(o, "cos", elementary::cos);
  function(o, "tan", elementary::tan);
  function(o, "atan2", elementary::atan2);
  function(o, "powerOf10000", elementary::power_of_10000);
  function(o, "power", elementary::power);
  function(o, "oneMinusPower", elementary::one_minus_power);
  method(o, "normalPairs", normal_pairs);
  method(o, "encodePositions", encode);
  return o;
}

}  // namespace orch::addon
