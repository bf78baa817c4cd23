/** The model of a configuration. */
import type { ModelSpec } from '../native/contract.js';
import { HEAD_DIM, hiddenOf } from '../native/specs.js';
import type { Config } from './schema.js';

/** What a configuration may leave to the data set. */
export type FromData = Pick<ModelSpec, 'latentChannels' | 'contextDim' | 'pooledDim' | 'posEmbedMaxSize'>;

export function modelOf({ model }: Pick<Config, 'model'>, fromData: FromData): ModelSpec {
  return {
    backbone: model.backbone,
    depth: model.depth,
    heads: model.hidden / HEAD_DIM,
    patch: model.patch,
    latentChannels: model.latent_channels ?? fromData.latentChannels,
    contextDim: model.context_dim ?? fromData.contextDim,
    pooledDim: model.pooled_dim ?? fromData.pooledDim,
    posEmbedMaxSize: model.pos_embed_max_size ?? fromData.posEmbedMaxSize,
    qkNorm: model.qk_norm,
    dualAttention: model.dual_attention,
  };
}

/** The `model` of a configuration that gives exactly this model. */
export function modelKeys(spec: ModelSpec): Config['model'] {
  return {
    backbone: spec.backbone,
    depth: spec.depth,
    hidden: hiddenOf(spec),
    patch: spec.patch,
    latent_channels: spec.latentChannels,
    context_dim: spec.contextDim,
    pooled_dim: spec.pooledDim,
    pos_embed_max_size: spec.posEmbedMaxSize,
    qk_norm: spec.qkNorm,
    dual_attention: spec.dualAttention,
  };
}

/** One key of `model` with different values. */
interface ModelDifference {
  /** "depth", "qk_norm" */
  key: string;
  a: unknown;
  b: unknown;
}

/** The keys of `model` in which two models differ. */
export function modelDifferences(a: ModelSpec, b: ModelSpec): ModelDifference[] {
  const [first, second] = [modelKeys(a), modelKeys(b)];
  return Object.entries(first).flatMap(([key, value]) => {
    const other = second[key as keyof typeof second];
    return JSON.stringify(value) === JSON.stringify(other) ? [] : [{ key, a: value, b: other }];
  });
}
