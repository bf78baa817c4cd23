/**
 * Recognises the model in a file from the names and shapes of its tensors, and compares a file's tensors with
 * a model.
 */
import { OrchestratorError } from '../errors.js';
import { quoted } from '../formats/safetensors/header.js';
import type { ModelSpec } from '../native/contract.js';
import { HEAD_DIM } from '../native/specs.js';
import { BACKBONES, type Backbone, diffusersTensors, officialTensors } from './backbones.js';
import { describeModel, type NamedTensor, OFFICIAL_PREFIX, POS_EMBED } from './tensors.js';

/** Parts other than the diffusion model that released files contain. */
const OTHER_PARTS: Record<string, string> = {
  'first_stage_model.': 'VAE',
  'text_encoders.': 'text encoders',
};
/** Tensors listed in an error. */
const LISTED = 20;

/** The naming scheme of a file's tensors. */
export type Format = 'official' | 'diffusers';

/** The projection of patches, by which a format is told. */
const PROJECTION: Record<Format, string> = {
  official: 'x_embedder.proj.weight',
  diffusers: 'pos_embed.proj.weight',
};

export type Shapes = ReadonlyMap<string, { shape: readonly number[] }>;

export interface ModelTensors {
  format: Format;
  /** The name in the file for each name of the format without prefix. */
  names: Map<string, string>;
  /** The shape for each name of the format without prefix. */
  shapes: Map<string, readonly number[]>;
  /** Other parts of the file, which are skipped, with their number of tensors. */
  skipped: { part: string; prefix: string; tensors: number }[];
}

function failure(path: string, what: string, hint: string | null = null): OrchestratorError {
  return new OrchestratorError('ERR_MODEL_TENSORS', `${path}: ${what}`, hint);
}

/**
 * Separates the diffusion model's tensors from other parts of a file, and removes the official prefix.
 *
 * @throws OrchestratorError ERR_MODEL_TENSORS: a name occurs with and without prefix, or the names are not
 *   those of an MM-DiT.
 */
export function modelTensors(tensors: Shapes, path: string): ModelTensors {
  const names = new Map<string, string>();
  const shapes = new Map<string, readonly number[]>();
  const skipped = new Map<string, number>();
  for (const [fileName, { shape }] of tensors) {
    const other = Object.keys(OTHER_PARTS).find((prefix) => fileName.startsWith(prefix));
    if (other !== undefined) {
      skipped.set(other, (skipped.get(other) ?? 0) + 1);
      continue;
    }
    const name = fileName.startsWith(OFFICIAL_PREFIX) ? fileName.slice(OFFICIAL_PREFIX.length) : fileName;
    const twin = names.get(name);
    if (twin !== undefined)
      throw failure(path, `${quoted(fileName)} and ${quoted(twin)} name the same tensor`);
    names.set(name, fileName);
    shapes.set(name, shape);
  }
  const formats = (['official', 'diffusers'] as const).filter((format) => shapes.has(PROJECTION[format]));
  const [format] = formats;
  if (format === undefined || formats.length > 1) {
    const { official, diffusers } = PROJECTION;
    throw failure(
      path,
      format === undefined
        ? `there is neither a tensor "${official}" (official names) nor "${diffusers}" (diffusers' names), so this is not an MM-DiT`
        : `there is both a tensor "${official}" (official names) and "${diffusers}" (diffusers' names)`,
    );
  }
  return {
    format,
    names,
    shapes,
    skipped: [...skipped].map(([prefix, count]) => ({ part: OTHER_PARTS[prefix]!, prefix, tensors: count })),
  };
}

/** "Skipped 244 tensors of the VAE (first_stage_model.*)", or null if nothing was skipped. */
export function describeSkipped(skipped: ModelTensors['skipped']): string | null {
  if (skipped.length === 0) return null;
  const parts = skipped.map(({ part, prefix, tensors }) => `${tensors} tensors of the ${part} (${prefix}*)`);
  return `Skipped ${parts.join(' and ')}`;
}

function side(
  shapes: ReadonlyMap<string, readonly number[]>,
  name: string,
  rank: number,
  axis: number,
  path: string,
): number {
  const shape = shapes.get(name);
  if (shape === undefined) throw failure(path, `the tensor ${quoted(name)} is missing`);
  const value = shape[axis];
  if (shape.length !== rank || value === undefined || value < 1) {
    throw failure(
      path,
      `the tensor ${quoted(name)} has the shape [${shape.join(', ')}]; expected ${rank} sides`,
    );
  }
  return value;
}

/**
 * Determines depth, heads, dimensions, QK norm and dual blocks from the tensors, then compares every tensor
 * with that model.
 *
 * @param shapes by the format's names without prefix (see modelTensors).
 * @throws OrchestratorError ERR_MODEL_TENSORS: lists missing, unexpected and misshapen tensors.
 */
export function modelSpecFromTensors(
  shapes: ReadonlyMap<string, readonly number[]>,
  path: string,
  format: Format = 'official',
): ModelSpec {
  const { name: backbone, names, fileName, blocks } = recognised(shapes, path, format);
  const proj = PROJECTION[format];
  const hidden = side(shapes, proj, 4, 0, path);
  if (hidden % HEAD_DIM !== 0) {
    throw failure(
      path,
      `${proj} has ${hidden} outputs; expected a multiple of the head dimension ${HEAD_DIM}`,
    );
  }
  const posEmbed = fileName(POS_EMBED);
  const positions = side(shapes, posEmbed, 3, 1, path);
  const posEmbedMaxSize = Math.round(Math.sqrt(positions));
  if (posEmbedMaxSize * posEmbedMaxSize !== positions) {
    throw failure(path, `${posEmbed} holds ${positions} positions, which is not the square of a grid's side`);
  }
  // A stray high block number must not make the list of expected tensors larger than the file.
  const depth = Math.min(
    [...blocks].reduce((most, block) => Math.max(most, block + 1), 0),
    shapes.size,
  );
  const isDual = (block: number) =>
    names.dualAttention !== null && shapes.has(fileName(names.dualAttention(block)));
  const spec: ModelSpec = {
    backbone,
    depth,
    heads: hidden / HEAD_DIM,
    patch: side(shapes, proj, 4, 2, path),
    latentChannels: side(shapes, proj, 4, 1, path),
    contextDim: side(shapes, fileName('context_embedder.weight'), 2, 1, path),
    pooledDim: side(shapes, fileName('y_embedder.mlp.0.weight'), 2, 1, path),
    posEmbedMaxSize,
    qkNorm: shapes.has(fileName(names.qkNorm(0))) ? 'rms' : 'none',
    dualAttention: Array.from({ length: depth }, (_, block) => block).filter(isDual),
  };
  checkTensors(spec, shapes, path, format);
  return spec;
}

interface Recognised {
  name: string;
  names: Backbone;
  /** The name that the format gives an official tensor, or the first part of one that it splits. */
  fileName(official: string): string;
  /** Numbers of the blocks; at least one. */
  blocks: Set<number>;
}

/** The backbone whose blocks are among the tensors. */
function recognised(shapes: ReadonlyMap<string, unknown>, path: string, format: Format): Recognised {
  for (const [name, names] of Object.entries(BACKBONES)) {
    const { diffusers } = names;
    if (format === 'diffusers' && diffusers === null) continue;
    const fileName = (official: string) =>
      format === 'official' || diffusers === null ? official : diffusers.namesOf(official)[0]!;
    // In both formats a block's number follows the first part of a name.
    const [prefix] = fileName(names.qkNorm(0)).split('.0.');
    const pattern = new RegExp(`^${prefix}\\.(0|[1-9]\\d{0,8})\\.`);
    const matches = [...shapes.keys()].flatMap((tensor) => pattern.exec(tensor)?.[1] ?? []);
    if (matches.length > 0) return { name, names, fileName, blocks: new Set(matches.map(Number)) };
  }
  throw failure(path, 'there are no tensors of blocks');
}

function listed(title: string, lines: string[]): string[] {
  if (lines.length === 0) return [];
  const more = lines.length > LISTED ? [`  and ${lines.length - LISTED} more`] : [];
  return [`${lines.length} ${title}:`, ...lines.slice(0, LISTED).map((line) => `  ${line}`), ...more];
}

/** All tensors of a model's file, under the format's names without prefix. */
function formatTensors(spec: ModelSpec, format: Format, path: string): NamedTensor[] {
  try {
    return format === 'official' ? officialTensors(spec) : diffusersTensors(spec);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODEL_SPEC') throw error;
    throw failure(path, (error as Error).message);
  }
}

/**
 * Compares every tensor with those of a model.
 *
 * @param shapes by the format's names without prefix.
 * @throws OrchestratorError ERR_MODEL_TENSORS: lists missing, unexpected and misshapen tensors by name.
 */
function checkTensors(
  spec: ModelSpec,
  shapes: ReadonlyMap<string, readonly number[]>,
  path: string,
  format: Format,
): void {
  const expected = new Map(formatTensors(spec, format, path).map(({ name, shape }) => [name, shape]));
  const missing: string[] = [];
  const misshapen: string[] = [];
  for (const [name, shape] of expected) {
    const found = shapes.get(name);
    const wanted = `[${shape.join(', ')}]`;
    if (found === undefined) missing.push(`${name} ${wanted}`);
    else if (`[${found.join(', ')}]` !== wanted)
      misshapen.push(`${name} [${found.join(', ')}], expected ${wanted}`);
  }
  const unexpected = [...shapes]
    .filter(([name]) => !expected.has(name))
    .map(([name, shape]) => `${quoted(name)} [${shape.join(', ')}]`);
  const lines = [
    ...listed('missing', missing),
    ...listed('misshapen', misshapen),
    ...listed('unexpected', unexpected),
  ];
  if (lines.length === 0) return;
  throw failure(
    path,
    `the tensors are not those of an MM-DiT with ${describeModel(spec)}\n${lines.join('\n')}`,
  );
}
