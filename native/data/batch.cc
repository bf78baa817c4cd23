#include "batch.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "../core/error.h"
#include "../kernels/kernels.h"

namespace orch {
namespace {

/// All-zero bytes are 0.0 in every type used here.
template <class T>
void zero(T* out, int64_t n) {
  std::memset(static_cast<void*>(out), 0, static_cast<size_t>(n) * sizeof(T));
}

template <class T>
void convert(T* out, const void* values, DType type, int64_t n) {
  const auto& kernels = kernels::cpu().typed<T>();
  if (type == DType::F16)
    kernels.from_f16(out, static_cast<const f16*>(values), n);
  else
    kernels.from_f32(out, static_cast<const float*>(values), n);
}

/// Copies one row of values [tokens, dim] into the channels [channel, channel + dim) of a context [tokens,
/// stride].
template <class T>
void place(T* context, int64_t stride, int64_t channel, const void* values, DType type, int64_t tokens,
           int64_t dim) {
  const auto* from = static_cast<const uint8_t*>(values);
  const auto bytes = dim * static_cast<int64_t>(size_of(type));
  for (int64_t i = 0; i < tokens; i++) convert(context + i * stride + channel, from + i * bytes, type, dim);
}

}  // namespace

BatchAssembler::BatchAssembler(std::shared_ptr<const Dataset> dataset, const TextSpec& text,
                               int64_t latent_elements)
    : dataset_(std::move(dataset)),
      text_(text),
      latent_elements_(latent_elements),
      latent_(dataset_->column("latent")) {
  if (dataset_->width(latent_) != latent_elements)
    throw Error("ERR_DATA_SHAPE", "Column latent has ", dataset_->width(latent_),
                " elements a row, the model needs ", latent_elements);
  if (text.clip_l_dim + text.clip_g_dim > text.t5_dim)
    throw Error("ERR_DATA_SHAPE", "CLIP-L and CLIP-G are ", text.clip_l_dim, " + ", text.clip_g_dim,
                " channels wide, more than T5's ", text.t5_dim, " that they are padded to");
  original_ = columns_of("original");
  has_synthetic_ = dataset_->find("synthetic.t5") >= 0;
  if (has_synthetic_) synthetic_ = columns_of("synthetic");
}

BatchAssembler::TextColumns BatchAssembler::columns_of(const char* caption) const {
  auto checked = [&](const char* name, int64_t tokens, int64_t dim) {
    const std::string role = std::string(caption) + "." + name;
    const int column = dataset_->column(role);
    if (tokens <= 0 || dim <= 0 || tokens > INT32_MAX || dim > INT32_MAX ||
        dataset_->width(column) != tokens * dim) {
      throw Error("ERR_DATA_SHAPE", "Column ", role, " has ", dataset_->width(column),
                  " elements a row, expected ", tokens, " x ", dim);
    }
    return column;
  };
  return {checked("clip_l", text_.clip_tokens, text_.clip_l_dim),
          checked("clip_l_pooled", 1, text_.clip_l_pooled_dim),
          checked("clip_g", text_.clip_tokens, text_.clip_g_dim),
          checked("clip_g_pooled", 1, text_.clip_g_pooled_dim), checked("t5", text_.t5_tokens, text_.t5_dim)};
}

template <class T>
void BatchAssembler::assemble(const BatchRows& rows, float* x0, T* context, T* pooled) const {
  const Dataset& data = *dataset_;
  const TextSpec& t = text_;
  const int64_t dim = t.context_dim();
  for (int64_t b = 0; b < rows.count; b++) {
    const int64_t row = rows.rows[b];
    if (rows.synthetic[b] && !has_synthetic_)
      throw Error("ERR_DATA_COLUMN", "Row ", row,
                  " is asked for with its synthetic caption, but the data set has none");
    const TextColumns& c = rows.synthetic[b] ? synthetic_ : original_;
    const uint8_t dropped = rows.dropped[b];
    data.row_f32(latent_, row, x0 + b * latent_elements_);

    T* clip = context + b * t.context_tokens() * dim;
    T* t5 = clip + t.clip_tokens * dim;
    zero(clip, t.clip_tokens * dim);
    T* pooled_l = pooled + b * t.pooled_dim();
    const auto encoder = [&](DroppedEncoder which, int features, int64_t channel, int64_t width, T* pooled_to,
                             int pooled_features, int64_t pooled_width) {
      if (dropped & which) return zero(pooled_to, pooled_width);
      place(clip, dim, channel, data.row(features, row), data.type(features), t.clip_tokens, width);
      convert(pooled_to, data.row(pooled_features, row), data.type(pooled_features), pooled_width);
    };
    encoder(kDropClipL, c.clip_l, 0, t.clip_l_dim, pooled_l, c.clip_l_pooled, t.clip_l_pooled_dim);
    encoder(kDropClipG, c.clip_g, t.clip_l_dim, t.clip_g_dim, pooled_l + t.clip_l_pooled_dim, c.clip_g_pooled,
            t.clip_g_pooled_dim);
    if (dropped & kDropT5)
      zero(t5, t.t5_tokens * dim);
    else
      convert(t5, data.row(c.t5, row), data.type(c.t5), t.t5_tokens * dim);
  }
  data.require_whole();
}

template void BatchAssembler::assemble(const BatchRows&, float*, float*, float*) const;
template void BatchAssembler::assemble(const BatchRows&, float*, bf16*, bf16*) const;

}  // namespace orch
