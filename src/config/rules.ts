/**
 * Rules between keys. Each rule names the keys that it reads, and is skipped if one of them is invalid by
 * itself.
 */
import { freezeProblem } from '../model/freeze.js';
import { expectedParameters } from '../model/tensors.js';
import { densityProblem } from '../objective/density.js';
import type { Config } from './schema.js';

export interface Rule {
  /** The key that the error names, because it is the first to change. */
  key: string;
  /** Other keys that the rule reads. */
  reads: string[];
  /** "expected ..., received ...", or null if the rule holds. */
  check(config: Config): string | null;
}

export const RULES: readonly Rule[] = [
  {
    key: 'batch.global',
    reads: ['batch.micro'],
    check: ({ batch }) =>
      batch.global % batch.micro === 0
        ? null
        : `expected a multiple of batch.micro (${batch.micro}), received ${batch.global}`,
  },
  {
    key: 'schedule.warmup',
    reads: ['schedule.steps'],
    check: ({ schedule }) =>
      schedule.warmup <= schedule.steps
        ? null
        : `expected at most schedule.steps (${schedule.steps}), received ${schedule.warmup}`,
  },
  {
    key: 'model.dual_attention',
    reads: ['model.depth'],
    check: ({ model }) => {
      const tooLarge = model.dual_attention.find((block) => block >= model.depth);
      if (tooLarge !== undefined) {
        return `expected indices below model.depth (${model.depth}), received ${tooLarge}`;
      }
      const repeated = model.dual_attention.find((block, i) => model.dual_attention.indexOf(block) !== i);
      return repeated === undefined ? null : `expected each index once, received ${repeated} twice`;
    },
  },
  {
    key: 'threads_per_slot',
    reads: ['device'],
    check: ({ device, threads_per_slot }) =>
      device === 'cpu' || threads_per_slot === null
        ? null
        : `expected null, because device is ${device} and computes whole slots, received ${threads_per_slot}`,
  },
  {
    key: 'exchange',
    reads: ['device'],
    check({ device, exchange }) {
      if (device === 'cuda' && exchange === 'shared')
        return `expected auto, nccl or grpc, because device is cuda and GPUs cannot share memory, received shared`;
      if (device === 'cpu' && exchange === 'nccl')
        return `expected auto, shared or grpc, because device is cpu and NCCL connects GPUs, received nccl`;
      return null;
    },
  },
  {
    key: 'freeze',
    reads: ['model.depth', 'model.hidden', 'model.qk_norm', 'model.dual_attention'],
    check: ({ freeze, model }) => (freeze.length === 0 ? null : freezeProblem(parameterNames(model), freeze)),
  },
  {
    key: 'objective.density',
    reads: [],
    check: ({ objective }) => {
      const expected = densityProblem(objective.density);
      return expected === null ? null : `expected ${expected}, received ${objective.density}`;
    },
  },
  {
    key: 'model.latent_channels',
    reads: ['data.latent_shape'],
    check: ({ data, model }) =>
      data.latent_shape === null || data.latent_shape[0] === model.latent_channels
        ? null
        : `expected ${data.latent_shape[0]}, the channels of data.latent_shape, received ${model.latent_channels}`,
  },
  {
    key: 'data.latent_shape',
    reads: ['model.patch', 'model.pos_embed_max_size'],
    check: ({ data, model }) => {
      if (data.latent_shape === null) return null;
      const [, height, width] = data.latent_shape;
      if (height % model.patch !== 0 || width % model.patch !== 0) {
        return `expected a height and width divisible by model.patch (${model.patch}), received ${height} x ${width}`;
      }
      const limit = model.pos_embed_max_size * model.patch;
      return Math.max(height, width) <= limit
        ? null
        : `expected a height and width of at most ${limit} (model.pos_embed_max_size * model.patch), received ${height} x ${width}`;
    },
  },
  {
    key: 'data.text_shape.clip_g',
    reads: ['data.text_shape.clip_l'],
    check: ({ data: { text_shape: shape } }) =>
      shape === null || shape.clip_g[0] === shape.clip_l[0]
        ? null
        : `expected as many tokens as clip_l (${shape.clip_l[0]}), received ${shape.clip_g[0]}`,
  },
  {
    key: 'data.text_shape.t5',
    reads: ['data.text_shape.clip_l', 'data.text_shape.clip_g'],
    check: ({ data: { text_shape: shape } }) =>
      shape === null || shape.clip_l[1] + shape.clip_g[1] <= shape.t5[1]
        ? null
        : `expected a width of at least ${shape.clip_l[1] + shape.clip_g[1]}, those of clip_l and clip_g together, received ${shape.t5[1]}`,
  },
  {
    key: 'model.context_dim',
    reads: ['data.text_shape'],
    check: ({ data, model }) =>
      data.text_shape === null || model.context_dim === null || data.text_shape.t5[1] === model.context_dim
        ? null
        : `expected ${data.text_shape.t5[1]}, the width of data.text_shape.t5, or null; received ${model.context_dim}`,
  },
  {
    key: 'validation.weights',
    reads: ['ema', 'validation.every'],
    check: ({ ema, validation }) =>
      ema !== null || validation.every === 0 || !validation.weights.includes('ema')
        ? null
        : 'expected [master], because ema is null, received ema',
  },
  {
    key: 'validation.weights',
    reads: [],
    check: ({ validation: { weights } }) =>
      new Set(weights).size === weights.length ? null : `expected each once, received ${weights.join(', ')}`,
  },
];

/** Official names of a model's parameters, which do not depend on the data. */
function parameterNames(model: Config['model']): string[] {
  const spec = {
    depth: model.depth,
    heads: model.hidden / 64,
    patch: model.patch,
    latentChannels: model.latent_channels,
    contextDim: 1,
    pooledDim: 1,
    posEmbedMaxSize: model.pos_embed_max_size,
    qkNorm: model.qk_norm,
    dualAttention: model.dual_attention,
  };
  return expectedParameters(spec).map(({ name }) => name);
}
