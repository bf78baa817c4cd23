// Rows of a dataset as the inputs of a training step (paper: "Text"; docs/guide/model.md).
#pragma once
#include <cstdint>
#include <memory>

#include "dataset.h"

namespace orch {

/// Bits of BatchRows::dropped, one per text encoder.
enum DroppedEncoder : uint8_t { kDropClipL = 1, kDropClipG = 2, kDropT5 = 4 };

/// Mirrors TextSpec in src/native/contract.ts.
struct TextSpec {
  int64_t clip_tokens, t5_tokens;
  int64_t clip_l_dim, clip_g_dim, t5_dim;
  int64_t clip_l_pooled_dim, clip_g_pooled_dim;

  int64_t context_tokens() const { return clip_tokens + t5_tokens; }
  int64_t context_dim() const { return t5_dim; }
  int64_t pooled_dim() const { return clip_l_pooled_dim + clip_g_pooled_dim; }
};

/// Row numbers, the choice of caption, and the dropped encoders. Arrays have `count` entries.
struct BatchRows {
  int64_t count;
  const int64_t* rows;
  const uint8_t* synthetic;  ///< 1: the synthetic caption's columns; 0: the original's
  const uint8_t* dropped;    ///< DroppedEncoder bits
};

/// Gathers rows and assembles the text as in the paper: CLIP-L and CLIP-G are concatenated by channel and
/// zero-padded to T5's width, then concatenated with T5 along the sequence (CLIP tokens first); pooled =
/// [CLIP-L, CLIP-G]. The features and the pooled part of a dropped encoder are zeros. Const and thread-safe
/// after construction; allocates nothing.
class BatchAssembler {
 public:
  /// Throws Error(ERR_DATA_COLUMN) if a column is missing, Error(ERR_DATA_SHAPE) if its width does not match
  /// `text` or `latent_elements` = C*H*W.
  BatchAssembler(std::shared_ptr<const Dataset> dataset, const TextSpec& text, int64_t latent_elements);

  const TextSpec& text() const { return text_; }
  bool has_synthetic() const { return has_synthetic_; }

  /// x0 [B, C*H*W] fp32, context [B, context_tokens, context_dim] and pooled [B, pooled_dim] of type T,
  /// float or bf16. Throws Error(ERR_DATA_ROW) if a row is out of range,
  /// Error(ERR_DATA_COLUMN) for a synthetic caption if the dataset has none, and Error(ERR_FILE_TRUNCATED) if
  /// a file was truncated after it was opened.
  template <class T>
  void assemble(const BatchRows& rows, float* x0, T* context, T* pooled) const;

 private:
  struct TextColumns {
    int clip_l, clip_l_pooled, clip_g, clip_g_pooled, t5;
  };
  TextColumns columns_of(const char* caption) const;

  std::shared_ptr<const Dataset> dataset_;
  TextSpec text_;
  int64_t latent_elements_;
  int latent_;
  TextColumns original_{}, synthetic_{};
  bool has_synthetic_ = false;
};

extern template void BatchAssembler::assemble(const BatchRows&, float*, float*, float*) const;
extern template void BatchAssembler::assemble(const BatchRows&, float*, bf16*, bf16*) const;

}  // namespace orch
