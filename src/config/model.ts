/** The model of a configuration. */
import type { ModelSpec } from '../native/contract.js';
import { HEAD_DIM } from '../native/specs.js';
import type { Config } from './schema.js';

/** @param widths those of the text, which the configuration may leave to the data set. */
export function modelOf(
  { model }: Pick<Config, 'model'>,
  widths: Pick<ModelSpec, 'contextDim' | 'pooledDim'>,
): ModelSpec {
  return {
    backbone: model.backbone,
    depth: model.depth,
    heads: model.hidden / HEAD_DIM,
    patch: model.patch,
    latentChannels: model.latent_channels,
    ...widths,
    posEmbedMaxSize: model.pos_embed_max_size,
    qkNorm: model.qk_norm,
    dualAttention: model.dual_attention,
  };
}
