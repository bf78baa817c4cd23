// A dataset as a JavaScript object.
#include <thread>

#include "convert.h"
#include "objects.h"

namespace orch::addon {
namespace {

constexpr napi_type_tag kTag{0x6f7263682d646174ull, 0x61736574f1c59b02ull};

struct Handle {
  std::shared_ptr<const Dataset> dataset;
};

const std::shared_ptr<const Dataset>& open(const std::shared_ptr<Handle>& h) {
  if (!h->dataset) throw Error("ERR_HANDLE", "The dataset is closed");
  return h->dataset;
}

DatasetSpec spec_of(const Napi::Object& o) {
  DatasetSpec spec;
  auto files = array(o, "files");
  for (uint32_t i = 0; i < files.Length(); ++i) {
    auto f = object(files.Get(i), "files");
    spec.files.push_back({string(f, "path"), integer(f, "bytes")});
  }
  spec.stored_rows = integer(o, "storedRows");
  if (!o.Get("order").IsNull()) spec.order = copy_integers<int64_t>(o, "order");
  spec.latent_shift = static_cast<float>(number(o, "latentShift"));
  spec.latent_scale = static_cast<float>(number(o, "latentScale"));
  auto columns = array(o, "columns");
  for (uint32_t i = 0; i < columns.Length(); ++i) {
    auto c = object(columns.Get(i), "columns");
    const auto type = one_of<Stored>(c.Get("type"), "type",
                                     {{"float16", Stored::F16},
                                      {"bfloat16", Stored::BF16},
                                      {"float32", Stored::F32},
                                      {"float64", Stored::F64}});
    ColumnSpec column{string(c, "role"), type, integer(c, "width"), integer(c, "rowBytes"), {}};
    const auto numbers = copy_integers<int64_t>(c, "segments");
    if (numbers.size() % 4 != 0) wrong(o.Env(), "segments", "four numbers each");
    for (size_t at = 0; at < numbers.size(); at += 4)
      column.segments.push_back({numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]});
    spec.columns.push_back(std::move(column));
  }
  return spec;
}

Napi::Value scan(const std::shared_ptr<Handle>& h, const Napi::CallbackInfo& info) {
  auto dataset = open(h);
  const int column = dataset->column(info[0].ToString().Utf8Value());
  const int64_t from = integer(info[1], "from"), to = integer(info[2], "to");
  const double low = info[3].ToNumber().DoubleValue(), high = info[4].ToNumber().DoubleValue();
  const int bins = static_cast<int>(integer(info[5], "bins", 0, 1 << 20));
  return promise(
      info.Env(), on_own_thread, nullptr, [=] { return dataset->scan(column, from, to, low, high, bins); },
      [](Napi::Env env, const ColumnScan& s) {
        return record(env, {{"min", s.min},
                            {"max", s.max},
                            {"mean", s.mean},
                            {"std", s.std},
                            {"nonFinite", s.non_finite},
                            {"nonFiniteRows", s.non_finite_rows},
                            {"firstNonFiniteRows", s.first_non_finite_rows},
                            {"histogram", s.histogram}});
      });
}

Napi::Value finite(const std::shared_ptr<Handle>& h, const Napi::CallbackInfo& info) {
  auto dataset = open(h);
  const auto rows = integers<int64_t>(typed_array<double>(info[0], "rows"), "rows");
  return promise(
      info.Env(), on_own_thread, nullptr,
      [=] {
        std::vector<double> finite;
        for (const int64_t row : rows) finite.push_back(dataset->finite(row) ? 1 : 0);
        return finite;
      },
      Converted{});
}

Napi::Object dataset_object(Napi::Env env, const std::shared_ptr<Handle>& h) {
  auto o = Napi::Object::New(env);
  o.Set("native", tagged(env, kTag, h));
  method(o, "row", [h](const Napi::CallbackInfo& info) -> Napi::Value {
    const auto& d = open(h);
    const int column = d->column(info[0].ToString().Utf8Value());
    auto out = Napi::Float32Array::New(info.Env(), d->width(column));
    d->row_f32(column, integer(info[1], "row"), out.Data());
    return out;
  });
  method(o, "scan", [h](const Napi::CallbackInfo& info) { return scan(h, info); });
  method(o, "finite", [h](const Napi::CallbackInfo& info) { return finite(h, info); });
  method(o, "close", [h](const Napi::CallbackInfo& info) -> Napi::Value {
    h->dataset.reset();
    return info.Env().Undefined();
  });
  return o;
}

}  // namespace

Napi::Value map_dataset(const Napi::CallbackInfo& info) {
  const DatasetSpec spec = spec_of(object(info[0], "the dataset"));
  return promise(
      info.Env(), on_own_thread, nullptr, [spec] { return std::make_shared<const Dataset>(spec); },
      [](Napi::Env env, std::shared_ptr<const Dataset>& dataset) {
        return dataset_object(env, std::make_shared<Handle>(Handle{std::move(dataset)}));
      });
}

std::shared_ptr<const Dataset> dataset_of(const Napi::Value& v) {
  return open(untagged<Handle>(v, kTag, "a dataset"));
}

}  // namespace orch::addon
