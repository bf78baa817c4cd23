/**
 * The project's own data set format: Arrow IPC files ("shards") with a manifest.json that describes them.
 * Columns are named by role: "latent", "original.clip_l", ..., "synthetic.t5"; other columns (id, captions,
 * whatever a generator wants to keep) are allowed.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { OrchestratorError } from '../errors.js';
import { readJson } from '../files/json.js';
import { product } from './column.js';

export const MANIFEST_FILE = 'manifest.json';

/** Number of rows that share a checksum, so that damage can be located. */
export const CHECKSUM_ROWS = 64;

export const CAPTION_KINDS = ['original', 'synthetic'] as const;
export type CaptionKind = (typeof CAPTION_KINDS)[number];

/** A side of a shape: Arrow's lists count with 32 bits. */
export const dimension = z
  .number()
  .int()
  .positive()
  .max(2 ** 31 - 1);
const count = z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER);

export const columnSchema = z.strictObject({
  name: z.string().min(1),
  /**
   * utf8 and int64 columns hold one value per row and have shape []. float64, uint16 and bytes are only in
   * converted sets (version 2).
   */
  type: z.enum(['float16', 'float32', 'utf8', 'int64', 'float64', 'uint16', 'bytes']),
  /** Shape of one row, such as [16, 8, 8]. */
  shape: z.array(dimension).max(8),
});

const encoderSchema = z.strictObject({
  /** The model that computed the features, such as "openai/clip-vit-large-patch14". */
  name: z.string(),
  tokens: dimension,
  dim: dimension,
  /** Width of the pooled vector; null for an encoder without one (T5). */
  pooled_dim: dimension.nullable(),
});

export const shardSchema = z.strictObject({
  file: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, 'expected a plain file name'),
  rows: count,
  bytes: count,
  sha256: z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 hexadecimal digits'),
  /** CRC-32 of each CHECKSUM_ROWS rows of each float column, which locates damage in a shard. */
  crc32: z.record(z.string(), z.array(z.number().int().nonnegative())),
});

const manifestSchema = z.strictObject({
  format: z.literal('orchestrator-dataset'),
  /** 2: converted from files of another program, which name no encoders, and columns by their own names. */
  version: z.literal([1, 2]),
  rows: count,
  columns: z.array(columnSchema).min(1).max(1024),
  /** Null in version 2. */
  encoders: z.strictObject({ clip_l: encoderSchema, clip_g: encoderSchema, t5: encoderSchema }).nullable(),
  /** How pictures became latents, and what generated the data set: free-form, for people and tools. */
  latents: z.record(z.string(), z.unknown()),
  generator: z.record(z.string(), z.unknown()),
  shards: z.array(shardSchema),
});

export type Manifest = z.infer<typeof manifestSchema>;
export type ManifestColumn = Manifest['columns'][number];
export type Shard = Manifest['shards'][number];

/** Whether DIR/manifest.json is one of this format: other programs use the name, too. */
export function isManifest(dir: string): boolean {
  try {
    readJson(join(dir, MANIFEST_FILE), z.object({ format: manifestSchema.shape.format }));
    return true;
  } catch (error) {
    if (error instanceof OrchestratorError) return false;
    throw error;
  }
}

/** Reads and checks DIR/manifest.json. */
export function readManifest(dir: string): Manifest {
  const path = join(dir, MANIFEST_FILE);
  const manifest = readJson(path, manifestSchema);
  const bad = (what: string) => new OrchestratorError('ERR_DATA_FORMAT', `${path}: ${what}`);
  if ((manifest.version === 1) !== (manifest.encoders !== null))
    throw bad('"encoders" must be null in version 2 alone');
  const names = new Set<string>();
  for (const column of manifest.columns) {
    if (names.has(column.name)) throw bad(`column "${column.name}" is listed twice`);
    names.add(column.name);
    if (product(column.shape) > 2 ** 31 - 1) {
      throw bad(
        `column "${column.name}" has a row shape of ${column.shape.join(' x ')}, too large for Arrow`,
      );
    }
  }
  const sum = manifest.shards.reduce((total, shard) => total + shard.rows, 0);
  if (sum !== manifest.rows) throw bad(`"rows" is ${manifest.rows}, but the shards add up to ${sum}`);
  const files = new Set(manifest.shards.map((shard) => shard.file));
  if (files.size !== manifest.shards.length) throw bad('a shard is listed twice');
  return manifest;
}
