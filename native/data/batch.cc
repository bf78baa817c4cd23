#include "batch.h"

#include <cstring>
#include <string>

#include "../core/error.h"

namespace orch {
BatchAssembler::BatchAssembler(std::shared_ptr<const Dataset> dataset, const TextSpec& text,
                               int64_t latent_elements, DType type)
    : dataset_(std::move(dataset)), text_(text), type_(type), latent_(dataset_->column("latent")) {
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

void BatchAssembler::assemble(int64_t row, bool synthetic, uint8_t dropped, float* x0, void* context,
                              void* pooled) const {
  if (synthetic && !has_synthetic_)
    throw Error("ERR_DATA_COLUMN", "Row ", row,
                " is asked for with its synthetic caption, but the data set has none");
  const Dataset& data = *dataset_;
  const TextSpec& t = text_;
  const TextColumns& c = synthetic ? synthetic_ : original_;
  const auto size = static_cast<int64_t>(size_of(type_)), dim = t.context_dim();
  const auto at = [size](void* out, int64_t element) { return static_cast<char*>(out) + element * size; };
  data.read(latent_, row, DType::F32, x0);
  // All-zero bytes are 0.0 in either type. T5's channels are written completely, unless it is dropped.
  std::memset(context, 0, size * dim * (dropped & kDropT5 ? t.context_tokens() : t.clip_tokens));
  std::memset(pooled, 0, size * t.pooled_dim());
  if (!(dropped & kDropClipL)) {
    data.read(c.clip_l, row, type_, context, t.clip_tokens, dim);
    data.read(c.clip_l_pooled, row, type_, pooled);
  }
  if (!(dropped & kDropClipG)) {
    data.read(c.clip_g, row, type_, at(context, t.clip_l_dim), t.clip_tokens, dim);
    data.read(c.clip_g_pooled, row, type_, at(pooled, t.clip_l_pooled_dim));
  }
  if (!(dropped & kDropT5)) data.read(c.t5, row, type_, at(context, t.clip_tokens * dim));
  data.require_whole();
}

}  // namespace orch
