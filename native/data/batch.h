// Rows of a dataset as the inputs of a training step (paper: "Text"; docs/guide/model.md).
#pragma once
#include <cstdint>
#include <memory>

#include "../kernels/kernels.h"
#include "dataset.h"

namespace orch {

/// The bits of what is dropped: a text encoder each, or all of a row whose values are not finite, which then
/// reads as zeros.
enum Dropped : uint8_t { kDropClipL = 1, kDropClipG = 2, kDropT5 = 4, kDropRow = 8 };

/// Mirrors TextSpec in src/native/contract.ts.
struct TextSpec {
  int64_t clip_tokens, t5_tokens;
  int64_t clip_l_dim, clip_g_dim, t5_dim;
  int64_t clip_l_pooled_dim, clip_g_pooled_dim;

  int64_t context_tokens() const { return clip_tokens + t5_tokens; }
  int64_t context_dim() const { return t5_dim; }
  int64_t pooled_dim() const { return clip_l_pooled_dim + clip_g_pooled_dim; }
};

/// Gathers rows and assembles the text as in the paper: CLIP-L and CLIP-G are concatenated by channel and
/// zero-padded to T5's width, then concatenated with T5 along the sequence (CLIP tokens first); pooled =
/// [CLIP-L, CLIP-G]. A data set may hold both joined so already, in the columns CAPTION.context and
/// CAPTION.pooled. The features and the pooled part of a dropped encoder are zeros. Const and thread-safe
/// after construction.
class BatchAssembler {
 public:
  /// Throws Error(ERR_DATA_COLUMN) if a column is missing, Error(ERR_DATA_SHAPE) if its width does not match
  /// `text` or `latent_elements` = C*H*W.
  /// @param type of the text, F32 or BF16
  BatchAssembler(std::shared_ptr<const Dataset> dataset, const TextSpec& text, int64_t latent_elements,
                 DType type);

  /// One sample: x0 [C*H*W] fp32, context [context_tokens, context_dim] and pooled [pooled_dim] of the given
  /// type, from the columns of the synthetic or the original caption, without the `dropped` encoders
  /// (bits of Dropped). Where the data set has the column latent_logvar, its latents are the means of the
  /// autoencoder's posterior, and z = mean + exp(logvar / 2) * eps, with the log-variance clamped to [-30,
  /// 20] as in diffusers' DiagonalGaussianDistribution, and eps drawn with `draw` (whose stream is ignored).
  /// Throws Error(ERR_DATA_ROW) if the row is out of range, Error(ERR_DATA_COLUMN) for a synthetic caption if
  /// the dataset has none, and Error(ERR_FILE_TRUNCATED) if a file was truncated after it was opened.
  void assemble(int64_t row, bool synthetic, uint8_t dropped, const kernels::DrawKey& draw, float* x0,
                void* context, void* pooled) const;

 private:
  /// The joined ones, or those of each encoder; the others are -1.
  struct TextColumns {
    int context = -1, pooled = -1;
    int clip_l = -1, clip_l_pooled = -1, clip_g = -1, clip_g_pooled = -1, t5 = -1;
  };
  TextColumns columns_of(const char* caption) const;
  void read_latent(int64_t row, const kernels::DrawKey& draw, float* x0) const;

  std::shared_ptr<const Dataset> dataset_;
  TextSpec text_;
  DType type_;
  int latent_, logvar_;
  TextColumns original_{}, synthetic_{};
  bool has_synthetic_ = false;
};

}  // namespace orch
