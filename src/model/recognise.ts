/**
 * Recognises the model in a file from the names and shapes of its tensors, and compares a file's tensors with
 * a model.
 */
import { OrchestratorError } from '../errors.js';
import { quoted } from '../formats/safetensors/header.js';
import type { ModelSpec } from '../native/contract.js';
import { HEAD_DIM } from '../native/specs.js';
import { shortened } from '../text/shortened.js';
import { BACKBONES, type Format, fileTensors } from './backbones.js';
import { kindOf, OTHER_PARTS, otherPart, scaleOf, unwrapped } from './file-names.js';
import { describeModel, type NamedTensor, POS_EMBED } from './tensors.js';

/** Tensors listed in an error. */
const LISTED = 20;

/** The projection of patches, by which a format is told. */
const PROJECTION: Record<Format, string> = {
  official: 'x_embedder.proj.weight',
  diffusers: 'pos_embed.proj.weight',
};

type Shapes = ReadonlyMap<string, { shape: readonly number[] }>;

export interface ModelTensors {
  format: Format;
  /** The name in the file for each name of the format without prefix. */
  names: Map<string, string>;
  /** The shape for each name of the format without prefix. */
  shapes: Map<string, readonly number[]>;
  /** The names in the file of a quantised tensor's scales, by its name in the file. */
  scales: Map<string, string>;
  /** Other parts of the file, which are skipped, with their number of tensors. */
  skipped: { part: string; prefix: string; tensors: number }[];
}

function failure(path: string, what: string): OrchestratorError {
  return new OrchestratorError('ERR_MODEL_TENSORS', `${path}: ${what}`);
}

/**
 * Separates the diffusion model's tensors from other parts of a file, and removes the prefixes of wrappers from
 * their names.
 */
export function modelTensors(tensors: Shapes, path: string): ModelTensors {
  const names = new Map<string, string>();
  const shapes = new Map<string, readonly number[]>();
  const scales = new Map<string, string>();
  const skipped = new Map<string, number>();
  for (const [fileName, { shape }] of tensors) {
    const other = otherPart(fileName);
    if (other !== null) {
      skipped.set(other, (skipped.get(other) ?? 0) + 1);
      continue;
    }
    const scale = scaleOf(fileName);
    if (scale !== null) {
      if (scale.of !== null) scales.set(scale.of, fileName);
      continue;
    }
    const name = unwrapped(fileName);
    const twin = names.get(name);
    if (twin !== undefined)
      throw failure(path, `${quoted(fileName)} and ${quoted(twin)} name the same tensor`);
    names.set(name, fileName);
    shapes.set(name, shape);
  }
  const [isOfficial, isDiffusers] = [shapes.has(PROJECTION.official), shapes.has(PROJECTION.diffusers)];
  const official = `a tensor "${PROJECTION.official}" (official names)`;
  const diffusers = `"${PROJECTION.diffusers}" (diffusers' names)`;
  const kind = kindOf([...tensors.keys()]);
  const wrong = kind && new OrchestratorError('ERR_MODEL_TENSORS', `${path} holds ${kind.what}`, kind.hint);
  if (wrong && (kind.always || (!isOfficial && !isDiffusers))) throw wrong;
  if (isOfficial && isDiffusers) throw failure(path, `there is both ${official} and ${diffusers}`);
  if (!isOfficial && !isDiffusers)
    throw failure(path, `there is neither ${official} nor ${diffusers}, so this is not an MM-DiT`);
  return {
    format: isOfficial ? 'official' : 'diffusers',
    names,
    shapes,
    scales,
    skipped: [...skipped].map(([prefix, count]) => ({ part: OTHER_PARTS[prefix]!, prefix, tensors: count })),
  };
}

/** "Skipped 244 tensors of the VAE (first_stage_model.*)", or nothing if nothing was skipped. */
export function describeSkipped(skipped: ModelTensors['skipped']): string[] {
  if (skipped.length === 0) return [];
  const parts = skipped.map(({ part, prefix, tensors }) => `${tensors} tensors of the ${part} (${prefix}*)`);
  return [`Skipped ${parts.join(' and ')}`];
}

/**
 * Determines depth, heads, dimensions, QK norm and dual blocks from the tensors, then compares every tensor
 * with that model.
 *
 * @param shapes by the format's names without prefix (see modelTensors).
 */
export function modelSpecFromTensors(
  shapes: ReadonlyMap<string, readonly number[]>,
  path: string,
  format: Format = 'official',
): ModelSpec {
  const { backbone, names, fileName, depth } = findBackbone(shapes, path, format);
  const side = (official: string, rank: number, axis: number): number => {
    const name = fileName(official);
    const shape = shapes.get(name);
    if (shape === undefined) throw failure(path, `the tensor ${quoted(name)} is missing`);
    const value = shape[axis];
    if (shape.length === rank && value !== undefined && value > 0) return value;
    const seen = `the tensor ${quoted(name)} has the shape [${shape.join(', ')}]`;
    throw failure(path, `${seen}; expected ${rank} sides`);
  };
  const hidden = side(PROJECTION.official, 4, 0);
  if (hidden % HEAD_DIM !== 0) {
    const what = `${PROJECTION[format]} has ${hidden} outputs`;
    throw failure(path, `${what}; expected a multiple of the head dimension ${HEAD_DIM}`);
  }
  const positions = side(POS_EMBED, 3, 1);
  const posEmbedMaxSize = Math.round(Math.sqrt(positions));
  if (posEmbedMaxSize * posEmbedMaxSize !== positions) {
    const what = `${fileName(POS_EMBED)} holds ${positions} positions`;
    throw failure(path, `${what}, which is not the square of a grid's side`);
  }
  const { qkNorm, dualAttention } = names;
  const isDual = (block: number) => dualAttention !== null && shapes.has(fileName(dualAttention(block)));
  const spec: ModelSpec = {
    backbone,
    depth,
    heads: hidden / HEAD_DIM,
    patch: side(PROJECTION.official, 4, 2),
    latentChannels: side(PROJECTION.official, 4, 1),
    contextDim: side('context_embedder.weight', 2, 1),
    pooledDim: side('y_embedder.mlp.0.weight', 2, 1),
    posEmbedMaxSize,
    qkNorm: shapes.has(fileName(qkNorm(0))) ? 'rms' : 'none',
    dualAttention: Array.from({ length: depth }, (_, block) => block).filter(isDual),
  };
  checkTensors(spec, shapes, path, format);
  return spec;
}

/**
 * The backbone whose blocks are among the tensors, with their number, and with the name that the format gives
 * an official tensor (or the first part of one that it splits).
 */
function findBackbone(shapes: ReadonlyMap<string, unknown>, path: string, format: Format) {
  for (const [backbone, names] of Object.entries(BACKBONES)) {
    const { diffusers } = names;
    if (format === 'diffusers' && diffusers === null) continue;
    const fileName = (official: string) =>
      format === 'official' || diffusers === null ? official : diffusers.namesOf(official)[0]!;
    // In both formats a block's number follows the first part of a name.
    const [prefix] = fileName(names.qkNorm(0)).split('.0.');
    const pattern = new RegExp(`^${prefix}\\.(0|[1-9]\\d{0,8})\\.`);
    const blocks = [...shapes.keys()].flatMap((name) => pattern.exec(name)?.[1] ?? []);
    const last = blocks.reduce((most, block) => Math.max(most, Number(block)), -1);
    // A stray high block number must not make the list of expected tensors larger than the file.
    if (last >= 0) return { backbone, names, fileName, depth: Math.min(last + 1, shapes.size) };
  }
  throw failure(path, 'there are no tensors of blocks');
}

/** Compares every tensor with those of a model. */
function checkTensors(
  spec: ModelSpec,
  shapes: ReadonlyMap<string, readonly number[]>,
  path: string,
  format: Format,
): void {
  let expected: NamedTensor[];
  try {
    expected = fileTensors(spec, format);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODEL_SPEC') throw error;
    throw failure(path, (error as Error).message);
  }
  const text = (shape: readonly number[]) => `[${shape.join(', ')}]`;
  const lists: Record<string, string[]> = { missing: [], misshapen: [], unexpected: [] };
  for (const { name, shape } of expected) {
    const found = shapes.get(name);
    if (found === undefined) lists.missing!.push(`${name} ${text(shape)}`);
    else if (text(found) !== text(shape))
      lists.misshapen!.push(`${name} ${text(found)}, expected ${text(shape)}`);
  }
  const names = new Set(expected.map(({ name }) => name));
  for (const [name, shape] of shapes) {
    if (!names.has(name)) lists.unexpected!.push(`${quoted(name)} ${text(shape)}`);
  }
  const lines = Object.entries(lists).flatMap(([title, entries]) => {
    if (entries.length === 0) return [];
    return [`${entries.length} ${title}:`, ...shortened(entries, LISTED).map((line) => `  ${line}`)];
  });
  if (lines.length === 0) return;
  const what = `the tensors are not those of an MM-DiT with ${describeModel(spec)}`;
  throw failure(path, [what, ...lines].join('\n'));
}
