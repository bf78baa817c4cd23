/** Official names of tensors, and models in words. */
import type { ModelSpec, TensorInfo } from '../native/contract.js';
import { hiddenOf } from '../native/specs.js';

/** Prefix of all names of the diffusion model in released files. */
export const OFFICIAL_PREFIX = 'model.diffusion_model.';

/** The position table, [1, P * P, hidden], which is stored but not trained. */
export const POS_EMBED = 'pos_embed';

/** A tensor by its official name, without prefix. */
export type NamedTensor = Pick<TensorInfo, 'name' | 'shape'>;

/** "depth 24, hidden 1536, ...": a model in a line, for messages. The MM-DiT goes without saying. */
export function describeModel(spec: ModelSpec): string {
  return [
    ...(spec.backbone === 'mmdit' ? [] : [`backbone ${spec.backbone}`]),
    `depth ${spec.depth}`,
    `hidden ${hiddenOf(spec)}`,
    `patch ${spec.patch}`,
    `${spec.latentChannels} latent channels`,
    `context ${spec.contextDim}`,
    `pooled ${spec.pooledDim}`,
    `pos_embed_max_size ${spec.posEmbedMaxSize}`,
    `qk_norm ${spec.qkNorm}`,
    `dual attention ${spec.dualAttention.length === 0 ? 'none' : `in blocks ${spec.dualAttention.join(', ')}`}`,
  ].join(', ');
}

export function sameModel(a: ModelSpec, b: ModelSpec): boolean {
  return describeModel(a) === describeModel(b);
}

/** The name in a file of an engine's parameter, or of the position table. */
export function officialName(name: string): string {
  return OFFICIAL_PREFIX + name;
}
