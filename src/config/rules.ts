/**
 * Rules between keys. Each rule names the keys that it reads, and is skipped if one of them is invalid by
 * itself.
 */
import { freezeProblem } from '../model/freeze.js';
import { native } from '../native/load.js';
import { formulationProblem } from '../objective/names.js';
import { validatedWeights } from './derived.js';
import { stepShare, validationShare } from './message-size.js';
import { modelOf } from './model.js';
import { type Config, JOINED_COLUMNS, slotSamples, TEXT_COLUMNS } from './schema.js';

interface Rule {
  /** The key that the error names, because it is the first to change. */
  key: string;
  /** Other keys that the rule reads. */
  reads: string[];
  /** "expected ..., received ...", or null if the rule holds. */
  check(config: Config): string | null;
}

const rule = (key: string, reads: string[], check: Rule['check']): Rule => ({ key, reads, check });

export const RULES: readonly Rule[] = [
  rule('batch.global', ['batch.micro', 'batch.accumulate'], ({ batch }) => {
    const { global, micro, accumulate } = batch;
    if (global % slotSamples({ batch }) === 0) return null;
    const what =
      accumulate === 1
        ? `batch.micro (${micro})`
        : `batch.micro x batch.accumulate (${micro} x ${accumulate})`;
    return `expected a multiple of ${what}, received ${global}`;
  }),
  rule('batch.global', ['batch.micro', 'batch.accumulate'], (config) => {
    const { global } = config.batch;
    const share = stepShare(config);
    if (share <= 1) return null;
    return `expected at most ${Math.floor(global / share)}, because a worker reports the losses of a step in one message, received ${global}`;
  }),
  rule(
    'data.validation_rows',
    ['batch.micro', 'ema', 'validation.every', 'validation.bins', 'validation.weights'],
    (config) => {
      const { validation_rows: rows } = config.data;
      const share = validationShare(config);
      if (share <= 1) return null;
      return `expected at most about ${Math.floor(rows / share)}, because a worker reports the losses of all rows at all points of validation.bins (${config.validation.bins}) in one message, received ${rows}`;
    },
  ),
  rule('schedule.warmup', ['schedule.steps'], ({ schedule }) =>
    schedule.warmup <= schedule.steps
      ? null
      : `expected at most schedule.steps (${schedule.steps}), received ${schedule.warmup}; lower schedule.warmup, or train for more steps`,
  ),
  rule('checkpoint.keep_every', ['checkpoint.every'], ({ checkpoint: { every, keep_every } }) => {
    if (keep_every === 0 || (every > 0 && keep_every % every === 0)) return null;
    const expected =
      every === 0 ? '0, because checkpoint.every is 0' : `a multiple of checkpoint.every (${every})`;
    return `expected ${expected}, received ${keep_every}`;
  }),
  rule(
    'checkpoint.keep_best',
    ['checkpoint.every', 'validation.every', 'validation.weights', 'data.validation_rows', 'ema'],
    (config) => {
      const { every, keep_best } = config.checkpoint;
      if (!keep_best) return null;
      if (!validatedWeights(config).includes('ema')) {
        return 'expected false, because the EMA is not validated (ema, validation.every, validation.weights, data.validation_rows), received true';
      }
      if (every > 0 && config.validation.every % every === 0) return null;
      return `expected false, or a validation.every (${config.validation.every}) that is a multiple of checkpoint.every (${every}), so that every validated step has a checkpoint, received true`;
    },
  ),
  rule('model.dual_attention', ['model.depth'], ({ model }) => {
    const tooLarge = model.dual_attention.find((block) => block >= model.depth);
    if (tooLarge !== undefined) {
      return `expected indices below model.depth (${model.depth}), received ${tooLarge}`;
    }
    const repeated = model.dual_attention.find((block, i) => model.dual_attention.indexOf(block) !== i);
    return repeated === undefined ? null : `expected each index once, received ${repeated} twice`;
  }),
  rule('threads_per_slot', ['device'], ({ device, threads_per_slot }) =>
    device === 'cpu' || threads_per_slot === null
      ? null
      : `expected null, because device is ${device} and computes whole slots, received ${threads_per_slot}`,
  ),
  rule('precision.linear', ['device', 'precision.compute'], ({ device, precision: { compute, linear } }) => {
    if (linear !== 'fp8') return null;
    if (device !== 'cuda')
      return `expected compute, because device is ${device} and fp8 matmuls are computed by GPUs, received fp8`;
    return compute === 'fp32'
      ? 'expected compute, because precision.compute is fp32 and fp8 needs bf16, received fp8'
      : null;
  }),
  rule('exchange', ['device'], ({ device, exchange }) => {
    if (device === 'cuda' && exchange === 'shared')
      return `expected auto, nccl or grpc, because device is cuda and GPUs cannot share memory, received shared`;
    if (device === 'cpu' && exchange === 'nccl')
      return `expected auto, shared or grpc, because device is cpu and NCCL connects GPUs, received nccl`;
    return null;
  }),
  rule(
    'freeze',
    ['model.backbone', 'model.depth', 'model.hidden', 'model.qk_norm', 'model.dual_attention'],
    ({ freeze, model }) => (freeze.length === 0 ? null : freezeProblem(parameterNames(model), freeze)),
  ),
  rule('objective.formulation', [], ({ objective: { formulation } }) => {
    const expected = formulationProblem(formulation);
    return expected === null ? null : `expected ${expected}, received ${formulation}`;
  }),
  rule('model.latent_channels', ['data.latent_shape'], ({ data, model }) =>
    data.latent_shape === null ||
    model.latent_channels === null ||
    data.latent_shape[0] === model.latent_channels
      ? null
      : `expected ${data.latent_shape[0]}, the channels of data.latent_shape, or null; received ${model.latent_channels}`,
  ),
  rule('data.columns', [], ({ data: { columns } }) => {
    for (const caption of ['original', 'synthetic'] as const) {
      const given = Object.entries(columns?.[caption] ?? {}).flatMap(([name, at]) =>
        at === null ? [] : name,
      );
      const expected = given.includes('context') || given.includes('pooled') ? JOINED_COLUMNS : TEXT_COLUMNS;
      if (given.length === 0 || given.join() === expected.join()) continue;
      const either = `${TEXT_COLUMNS.join(', ')}, or ${JOINED_COLUMNS.join(' and ')}`;
      return `expected ${either} for ${caption}, received ${given.join(', ')}`;
    }
    return columns !== null && Object.values(columns.original).every((column) => column === null)
      ? `expected columns for original, received none`
      : null;
  }),
  rule('data.columns.latent_logvar', ['data.latent_form'], ({ data: { columns, latent_form } }) =>
    columns?.latent_logvar == null || latent_form === 'mean_logvar'
      ? null
      : `expected null, because data.latent_form is ${latent_form}, received ${columns.latent_logvar}`,
  ),
  rule('data.latent_shape', ['model.patch', 'model.pos_embed_max_size'], ({ data, model }) => {
    if (data.latent_shape === null) return null;
    const [, height, width] = data.latent_shape;
    if (height % model.patch !== 0 || width % model.patch !== 0) {
      return `expected a height and width divisible by model.patch (${model.patch}), received ${height} x ${width}`;
    }
    if (model.pos_embed_max_size === null) return null;
    const limit = model.pos_embed_max_size * model.patch;
    return Math.max(height, width) <= limit
      ? null
      : `expected a height and width of at most ${limit} (model.pos_embed_max_size * model.patch), received ${height} x ${width}`;
  }),
  rule('data.text_shape.clip_g', ['data.text_shape.clip_l'], ({ data: { text_shape: shape } }) =>
    shape === null || shape.clip_g[0] === shape.clip_l[0]
      ? null
      : `expected as many tokens as clip_l (${shape.clip_l[0]}), received ${shape.clip_g[0]}`,
  ),
  rule(
    'data.text_shape.t5',
    ['data.text_shape.clip_l', 'data.text_shape.clip_g'],
    ({ data: { text_shape: shape } }) =>
      shape === null || shape.clip_l[1] + shape.clip_g[1] <= shape.t5[1]
        ? null
        : `expected a width of at least ${shape.clip_l[1] + shape.clip_g[1]}, those of clip_l and clip_g together, received ${shape.t5[1]}`,
  ),
  rule('model.context_dim', ['data.text_shape'], ({ data, model }) =>
    data.text_shape === null || model.context_dim === null || data.text_shape.t5[1] === model.context_dim
      ? null
      : `expected ${data.text_shape.t5[1]}, the width of data.text_shape.t5, or null; received ${model.context_dim}`,
  ),
  rule('validation.weights', ['ema', 'validation.every', 'data.validation_rows'], (config) =>
    config.ema !== null || !validatedWeights(config).includes('ema')
      ? null
      : 'expected [master] or null, because ema is null, received ema',
  ),
  rule('validation.weights', [], ({ validation: { weights } }) =>
    weights === null || new Set(weights).size === weights.length
      ? null
      : `expected each once, received ${weights.join(', ')}`,
  ),
];

/** Official names of a model's parameters. They do not depend on what comes from the data. */
function parameterNames(model: Config['model']): string[] {
  const dual_attention = model.dual_attention.filter((block) => block < model.depth);
  const spec = modelOf(
    { model: { ...model, dual_attention } },
    { latentChannels: 1, contextDim: 1, pooledDim: 1, posEmbedMaxSize: 1 },
  );
  const { tensors } = native().parameters(spec);
  return tensors.map(({ name }) => name);
}
