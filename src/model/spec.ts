/** A model read off the names and shapes of a file's tensors, and a file's tensors held against a model. */
import { quoted } from '../checkpoint/header.js';
import { OrchestratorError } from '../errors.js';
import type { ModelSpec } from '../native/contract.js';
import { describeModel, expectedTensors, HEAD_DIM, OFFICIAL_PREFIX, POS_EMBED } from './tensors.js';

/** Parts that released files carry beside the diffusion model. */
const OTHER_PARTS: Record<string, string> = {
  'first_stage_model.': 'VAE',
  'text_encoders.': 'text encoders',
};
const LISTED = 20;

export type Shapes = ReadonlyMap<string, { shape: readonly number[] }>;

export interface ModelTensors {
  /** Name in the file, by official name without prefix. */
  names: Map<string, string>;
  /** By official name without prefix. */
  shapes: Map<string, readonly number[]>;
  /** Other parts of the file, which are skipped: what they are, and how many tensors. */
  skipped: { part: string; prefix: string; tensors: number }[];
}

function failure(path: string, what: string, hint?: string): OrchestratorError {
  return new OrchestratorError('ERR_MODEL_TENSORS', `${path}: ${what}`, hint === undefined ? {} : { hint });
}

/**
 * Separates the diffusion model's tensors from what else a file holds, and strips the official prefix.
 *
 * @throws OrchestratorError ERR_MODEL_TENSORS where a name occurs with and without prefix, or nothing is an MM-DiT's.
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
  if (!shapes.has('x_embedder.proj.weight')) {
    const diffusers = [...names.keys()].some((name) => name.startsWith('transformer_blocks.'));
    throw failure(
      path,
      'no tensor "x_embedder.proj.weight", so this is no MM-DiT under the official names',
      diffusers
        ? "The names are those of diffusers' SD3Transformer2DModel, which cannot be read yet."
        : undefined,
    );
  }
  return {
    names,
    shapes,
    skipped: [...skipped].map(([prefix, count]) => ({ part: OTHER_PARTS[prefix]!, prefix, tensors: count })),
  };
}

/** "Skipped 244 tensors of the VAE (first_stage_model.)", or null where nothing was. */
export function describeSkipped(skipped: ModelTensors['skipped']): string | null {
  if (skipped.length === 0) return null;
  const parts = skipped.map(({ part, prefix, tensors }) => `${tensors} tensors of the ${part} (${prefix}*)`);
  return `Skipped ${parts.join(' and ')}.`;
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
 * Reads depth, heads, dims, QK norm and dual blocks off the tensors, then holds every tensor against that model.
 *
 * @param shapes by official name without prefix (see modelTensors).
 * @throws OrchestratorError ERR_MODEL_TENSORS, which lists missing, unexpected and misshapen tensors.
 */
export function modelSpecFromTensors(
  shapes: ReadonlyMap<string, readonly number[]>,
  path: string,
): ModelSpec {
  const proj = 'x_embedder.proj.weight';
  const hidden = side(shapes, proj, 4, 0, path);
  if (hidden % HEAD_DIM !== 0) {
    throw failure(path, `${proj} has ${hidden} outputs; expected a multiple of the head's ${HEAD_DIM}`);
  }
  const positions = side(shapes, POS_EMBED, 3, 1, path);
  const posEmbedMaxSize = Math.round(Math.sqrt(positions));
  if (posEmbedMaxSize ** 2 !== positions) {
    throw failure(
      path,
      `${POS_EMBED} holds ${positions} positions, which is not the square of a grid's side`,
    );
  }
  const blocks = new Set<number>();
  const dual = new Set<number>();
  for (const name of shapes.keys()) {
    const match = /^joint_blocks\.(0|[1-9]\d{0,8})\.(.*)$/.exec(name);
    if (match === null) continue;
    blocks.add(Number(match[1]));
    if (match[2] === 'x_block.attn2.qkv.weight') dual.add(Number(match[1]));
  }
  // A stray high number must not make the list of what is expected larger than the file.
  const depth = Math.min(
    [...blocks].reduce((most, block) => Math.max(most, block + 1), 0),
    shapes.size,
  );
  if (depth === 0) throw failure(path, 'there are no tensors "joint_blocks.*"');
  const spec: ModelSpec = {
    depth,
    heads: hidden / HEAD_DIM,
    patch: side(shapes, proj, 4, 2, path),
    latentChannels: side(shapes, proj, 4, 1, path),
    contextDim: side(shapes, 'context_embedder.weight', 2, 1, path),
    pooledDim: side(shapes, 'y_embedder.mlp.0.weight', 2, 1, path),
    posEmbedMaxSize,
    qkNorm: shapes.has('joint_blocks.0.context_block.attn.ln_k.weight') ? 'rms' : 'none',
    dualAttention: [...dual].filter((block) => block < depth).sort((a, b) => a - b),
  };
  checkTensors(spec, shapes, path);
  return spec;
}

function listed(title: string, lines: string[]): string[] {
  if (lines.length === 0) return [];
  const more = lines.length > LISTED ? [`  and ${lines.length - LISTED} more`] : [];
  return [`${lines.length} ${title}:`, ...lines.slice(0, LISTED).map((line) => `  ${line}`), ...more];
}

/**
 * @param shapes by official name without prefix.
 * @throws OrchestratorError ERR_MODEL_TENSORS, which lists missing, unexpected and misshapen tensors by name.
 */
export function checkTensors(
  spec: ModelSpec,
  shapes: ReadonlyMap<string, readonly number[]>,
  path: string,
): void {
  const expected = new Map(expectedTensors(spec).map(({ name, shape }) => [name, shape]));
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
