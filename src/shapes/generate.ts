/** Generates data sets of the shapes world. */
import { readdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import {
  CHECKSUM_ROWS,
  MANIFEST_FILE,
  type Manifest,
  type ManifestColumn,
  readManifest,
} from '../data/manifest.js';
import type { Row, ShardSchema } from '../data/writer.js';
import { OrchestratorError } from '../errors.js';
import type { TextFeatures } from '../sampling/conditioning.js';
import { encodePicture, LATENT_CHANNELS, LATENT_SIDE } from './autoencoder.js';
import { drawPicture, PICTURE_KINDS, type PictureKind } from './kinds.js';
import { render } from './render.js';
import { DEFAULT_TEXT_ENCODERS, ENCODER_NAMES, TextEncoders } from './text-encoders.js';

export interface ShapesOptions {
  /** Folder to create; if it exists, it must be empty. */
  out: string;
  kind: PictureKind;
  /** Number of pictures. */
  count: number;
  /** In [0, 2^64). */
  seed: bigint;
  /** Called regularly with the number of rows written. */
  onProgress: ((rows: number) => void) | null;
}

const ROWS_PER_SHARD = 4096;

/** What uses Arrow's library is loaded only when it is needed. */
const writer = () => import('../data/writer.js');

/**
 * Generates a data set of the shapes world: latents, both captions, and the features of the three encoders
 * for each. Row i is a function of (seed, i) and the options alone, so the same call writes the same bytes,
 * and a larger data set begins with the smaller one.
 */
export async function generateShapes(options: ShapesOptions): Promise<Manifest> {
  const { out, count, onProgress } = options;
  const { writeShards } = await writer();
  return await writeShards(out, schemaOf(options), rows(options, count), ROWS_PER_SHARD, onProgress);
}

/**
 * Why the data set in `options.out` differs from the one that these options generate now, or null if it does
 * not: other numbers, or another generator, which the first rows reveal whether or not its version changed.
 * Throws ERR_FILE_WRITE if the folder holds another kind of data set.
 */
export async function staleReason(options: ShapesOptions): Promise<string | null> {
  const manifest = readManifest(options.out);
  const schema = schemaOf(options);
  if (manifest.generator.name !== schema.generator.name) {
    throw new OrchestratorError(
      'ERR_FILE_WRITE',
      `${options.out} holds a data set of another kind`,
      'Choose another folder, or remove it first',
    );
  }
  if (manifest.rows !== options.count) return `it has ${manifest.rows} rows`;
  for (const key of ['generator', 'encoders', 'latents', 'columns'] as const) {
    if (!isDeepStrictEqual(manifest[key], schema[key])) return `other ${key}`;
  }
  const { checksumsOf } = await writer();
  const first = checksumsOf(schema.columns, [...rows(options, Math.min(options.count, CHECKSUM_ROWS))]);
  const changed = Object.keys(first).find(
    (name) => manifest.shards[0]?.crc32[name]?.[0] !== first[name]?.[0],
  );
  return changed === undefined ? null : `other contents of "${changed}"`;
}

/** Removes a data set of the shapes world. Throws ERR_FILE_WRITE if its folder also holds other files. */
export async function removeShapes(dir: string): Promise<void> {
  const own = new Set([MANIFEST_FILE, ...readManifest(dir).shards.map(({ file }) => file)]);
  const other = readdirSync(dir).find((name) => !own.has(name));
  if (other !== undefined) {
    throw new OrchestratorError(
      'ERR_FILE_WRITE',
      `${join(dir, other)} is not part of the data set in ${dir}`,
      'Move it elsewhere, or choose another folder',
    );
  }
  await rm(dir, { recursive: true });
}

const { clipTokens, t5Tokens, clipLDim, clipGDim, t5Dim } = DEFAULT_TEXT_ENCODERS;

/** The columns of a caption's features: the ending of their name, the feature, its shape. */
const FEATURES: [ending: string, feature: keyof TextFeatures, shape: number[]][] = [
  ['clip_l', 'clipL', [clipTokens, clipLDim]],
  ['clip_l_pooled', 'clipLPooled', [clipLDim]],
  ['clip_g', 'clipG', [clipTokens, clipGDim]],
  ['clip_g_pooled', 'clipGPooled', [clipGDim]],
  ['t5', 't5', [t5Tokens, t5Dim]],
];

function schemaOf(options: ShapesOptions): ShardSchema {
  const half = (name: string, shape: number[]): ManifestColumn => ({ name, type: 'float16', shape });
  const captioned = (kind: string): ManifestColumn[] => [
    { name: `${kind}.caption`, type: 'utf8', shape: [] },
    ...FEATURES.map(([ending, , shape]) => half(`${kind}.${ending}`, shape)),
  ];
  const clip = (name: string, dim: number) => ({ name, tokens: clipTokens, dim, pooled_dim: dim });
  return {
    columns: [
      { name: 'id', type: 'int64', shape: [] },
      half('latent', [LATENT_CHANNELS, LATENT_SIDE, LATENT_SIDE]),
      ...captioned('original'),
      ...captioned('synthetic'),
    ],
    encoders: {
      clip_l: clip(ENCODER_NAMES.clip_l, clipLDim),
      clip_g: clip(ENCODER_NAMES.clip_g, clipGDim),
      t5: { name: ENCODER_NAMES.t5, tokens: t5Tokens, dim: t5Dim, pooled_dim: null },
    },
    latents: { autoencoder: 'dct', channels: LATENT_CHANNELS, downsampling: 8 },
    // Manifests of earlier versions, which had scenes alone, do not name them.
    generator: {
      ...{ name: 'shapes', version: 1, seed: String(options.seed) },
      ...(options.kind === 'scenes' ? {} : { pictures: options.kind }),
    },
  };
}

/** The kind and the seed of a data set of the shapes world; null for any other. */
export function generatorOf({ generator }: Manifest): { kind: PictureKind; seed: bigint } | null {
  const { name, seed, pictures = 'scenes' } = generator;
  const kind = PICTURE_KINDS.find((one) => one === pictures);
  if (name !== 'shapes' || kind === undefined || !/^\d{1,20}$/.test(String(seed))) return null;
  return { kind, seed: BigInt(String(seed)) };
}

function* rows({ kind, seed }: ShapesOptions, count: number): Generator<Row> {
  const encoders = new TextEncoders();
  for (let id = 0; id < count; id++) {
    const { scene, captions } = drawPicture(kind, seed, id);
    yield {
      id: BigInt(id),
      latent: encodePicture(render(scene)),
      ...textColumns(encoders, 'original', captions.original),
      ...textColumns(encoders, 'synthetic', captions.synthetic),
    };
  }
}

function textColumns(encoders: TextEncoders, kind: string, text: string): Row {
  const features = encoders.encode(text);
  const columns = FEATURES.map(([ending, feature]) => [`${kind}.${ending}`, features[feature]]);
  return { [`${kind}.caption`]: text, ...Object.fromEntries(columns) };
}
