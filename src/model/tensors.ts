/**
 * The tensors of an MM-DiT with their official names and shapes (Esser et al. 2024; the reference code of SD3
 * and SD3.5). Only this file knows them.
 */
import type { ModelSpec } from '../native/contract.js';

/** Prefix of all names of the diffusion model in released files. */
export const OFFICIAL_PREFIX = 'model.diffusion_model.';
export const HEAD_DIM = 64;
/** Channels of the timestep's sinusoidal embedding. */
const TIMESTEP_CHANNELS = 256;

export interface ExpectedTensor {
  /** Name without prefix. */
  name: string;
  shape: number[];
}

/** The position table, [1, P * P, hidden], which is stored but not trained. */
export const POS_EMBED = 'pos_embed';

export function hiddenOf(spec: Pick<ModelSpec, 'heads'>): number {
  return spec.heads * HEAD_DIM;
}

/** Number of values that the network predicts for a patch. */
function patchValues(spec: ModelSpec): number {
  return spec.patch * spec.patch * spec.latentChannels;
}

function linear(name: string, outputs: number, inputs: number): ExpectedTensor[] {
  return [
    { name: `${name}.weight`, shape: [outputs, inputs] },
    { name: `${name}.bias`, shape: [outputs] },
  ];
}

function queryKeyNorm(name: string, spec: ModelSpec): ExpectedTensor[] {
  if (spec.qkNorm === 'none') return [];
  return ['ln_q', 'ln_k'].map((norm) => ({ name: `${name}.${norm}.weight`, shape: [HEAD_DIM] }));
}

function attention(name: string, spec: ModelSpec, projected: boolean): ExpectedTensor[] {
  const hidden = hiddenOf(spec);
  return [
    ...linear(`${name}.qkv`, 3 * hidden, hidden),
    ...queryKeyNorm(name, spec),
    ...(projected ? linear(`${name}.proj`, hidden, hidden) : []),
  ];
}

/**
 * One stream's side of a block. The last context side only feeds the attention, so it has no projection and
 * no MLP.
 */
function stream(name: string, spec: ModelSpec, dual: boolean, preOnly: boolean): ExpectedTensor[] {
  const hidden = hiddenOf(spec);
  const modulations = preOnly ? 2 : dual ? 9 : 6;
  return [
    ...attention(`${name}.attn`, spec, !preOnly),
    ...(dual ? attention(`${name}.attn2`, spec, true) : []),
    ...(preOnly
      ? []
      : [...linear(`${name}.mlp.fc1`, 4 * hidden, hidden), ...linear(`${name}.mlp.fc2`, hidden, 4 * hidden)]),
    ...linear(`${name}.adaLN_modulation.1`, modulations * hidden, hidden),
  ];
}

/** All trained tensors of a model, so without `pos_embed`. */
export function expectedParameters(spec: ModelSpec): ExpectedTensor[] {
  const hidden = hiddenOf(spec);
  const { patch, latentChannels, depth } = spec;
  const tensors = [
    { name: 'x_embedder.proj.weight', shape: [hidden, latentChannels, patch, patch] },
    { name: 'x_embedder.proj.bias', shape: [hidden] },
    ...linear('t_embedder.mlp.0', hidden, TIMESTEP_CHANNELS),
    ...linear('t_embedder.mlp.2', hidden, hidden),
    ...linear('y_embedder.mlp.0', hidden, spec.pooledDim),
    ...linear('y_embedder.mlp.2', hidden, hidden),
    ...linear('context_embedder', hidden, spec.contextDim),
  ];
  for (let block = 0; block < depth; block++) {
    const name = `joint_blocks.${block}`;
    tensors.push(
      ...stream(`${name}.context_block`, spec, false, block === depth - 1),
      ...stream(`${name}.x_block`, spec, spec.dualAttention.includes(block), false),
    );
  }
  return [
    ...tensors,
    ...linear('final_layer.linear', patchValues(spec), hidden),
    ...linear('final_layer.adaLN_modulation.1', 2 * hidden, hidden),
  ];
}

/** All tensors of a model's file: `pos_embed`, then the parameters. */
export function expectedTensors(spec: ModelSpec): ExpectedTensor[] {
  const positions = {
    name: POS_EMBED,
    shape: [1, spec.posEmbedMaxSize * spec.posEmbedMaxSize, hiddenOf(spec)],
  };
  return [positions, ...expectedParameters(spec)];
}

export function elementCount(tensors: readonly ExpectedTensor[]): number {
  return tensors.reduce((sum, { shape }) => sum + shape.reduce((product, side) => product * side, 1), 0);
}

/** "depth 24, hidden 1536, ...": a model described in a line, for messages. */
export function describeModel(spec: ModelSpec): string {
  return [
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
