#include "batch.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "../core/elementary.h"
#include "../core/error.h"

namespace orch {
BatchAssembler::BatchAssembler(std::shared_ptr<const Dataset> dataset, const TextSpec& text,
                               int64_t latent_elements, DType type)
    : dataset_(std::move(dataset)),
      text_(text),
      type_(type),
      latent_(dataset_->column("latent")),
      logvar_(dataset_->find("latent_logvar")) {
  for (const int column : {latent_, logvar_ < 0 ? latent_ : logvar_}) {
    if (dataset_->width(column) == latent_elements) continue;
    throw Error("ERR_DATA_SHAPE", "Column ", column == latent_ ? "latent" : "latent_logvar", " has ",
                dataset_->width(column), " elements a row, the model needs ", latent_elements);
  }
  if (text.clip_l_dim + text.clip_g_dim > text.t5_dim)
    throw Error("ERR_DATA_SHAPE", "CLIP-L and CLIP-G are ", text.clip_l_dim, " + ", text.clip_g_dim,
                " channels wide, more than T5's ", text.t5_dim, " that they are padded to");
  original_ = columns_of("original");
  has_synthetic_ = dataset_->find("synthetic.t5") >= 0 || dataset_->find("synthetic.context") >= 0;
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
  TextColumns found;
  if (dataset_->find(std::string(caption) + ".context") >= 0) {
    // Read whole, the widths of the encoders' parts say only what dropping one of them zeroes.
    found.context = checked("context", text_.context_tokens(), text_.context_dim());
    found.pooled = checked("pooled", 1, text_.pooled_dim());
    return found;
  }
  found.clip_l = checked("clip_l", text_.clip_tokens, text_.clip_l_dim);
  found.clip_l_pooled = checked("clip_l_pooled", 1, text_.clip_l_pooled_dim);
  found.clip_g = checked("clip_g", text_.clip_tokens, text_.clip_g_dim);
  found.clip_g_pooled = checked("clip_g_pooled", 1, text_.clip_g_pooled_dim);
  found.t5 = checked("t5", text_.t5_tokens, text_.t5_dim);
  return found;
}

void BatchAssembler::read_latent(int64_t row, const kernels::DrawKey& draw, float* x0) const {
  const Dataset& data = *dataset_;
  data.read(latent_, row, DType::F32, x0);
  const int64_t n = data.width(latent_);
  if (logvar_ >= 0) {
    std::vector<float> logvar(static_cast<size_t>(n)), eps(static_cast<size_t>(n));
    data.read(logvar_, row, DType::F32, logvar.data());
    kernels::cpu().raw.normal(eps.data(), {draw.seed, kPosteriorStream, draw.step, draw.sample_id}, n);
    for (int64_t i = 0; i < n; ++i) {
      const double half = 0.5 * std::clamp(static_cast<double>(logvar[i]), -30.0, 20.0);
      x0[i] += static_cast<float>(elementary::exp(half)) * eps[i];
    }
  }
  const float shift = data.latent_shift(), scale = data.latent_scale();
  if (shift == 0 && scale == 1) return;
  for (int64_t i = 0; i < n; ++i) x0[i] = (x0[i] - shift) * scale;
}

void BatchAssembler::assemble(int64_t row, bool synthetic, uint8_t dropped, const kernels::DrawKey& draw,
                              float* x0, void* context, void* pooled) const {
  if (synthetic && !has_synthetic_)
    throw Error("ERR_DATA_COLUMN", "Row ", row,
                " is asked for with its synthetic caption, but the data set has none");
  const Dataset& data = *dataset_;
  const TextSpec& t = text_;
  const TextColumns& c = synthetic ? synthetic_ : original_;
  const auto size = static_cast<int64_t>(size_of(type_)), dim = t.context_dim();
  const auto at = [size](void* out, int64_t element) { return static_cast<char*>(out) + element * size; };
  // All-zero bytes are 0.0 in either type.
  const auto zero = [&](void* out, int64_t elements) { std::memset(out, 0, size * elements); };
  if (dropped & kDropRow) {
    std::memset(x0, 0, sizeof(float) * data.width(latent_));
    zero(context, t.context_tokens() * dim);
    return zero(pooled, t.pooled_dim());
  }
  read_latent(row, draw, x0);
  if (c.context >= 0) {
    data.read(c.context, row, type_, context);
    data.read(c.pooled, row, type_, pooled);
    const auto drop_clip = [&](int64_t channel, int64_t width) {
      for (int64_t i = 0; i < t.clip_tokens; ++i) zero(at(context, i * dim + channel), width);
    };
    if (dropped & kDropClipL) {
      drop_clip(0, t.clip_l_dim);
      zero(pooled, t.clip_l_pooled_dim);
    }
    if (dropped & kDropClipG) {
      drop_clip(t.clip_l_dim, t.clip_g_dim);
      zero(at(pooled, t.clip_l_pooled_dim), t.clip_g_pooled_dim);
    }
    if (dropped & kDropT5) zero(at(context, t.clip_tokens * dim), t.t5_tokens * dim);
    return data.require_whole();
  }
  // T5's channels are written completely, unless it is dropped.
  zero(context, dim * (dropped & kDropT5 ? t.context_tokens() : t.clip_tokens));
  zero(pooled, t.pooled_dim());
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
