/**
 * A data set for training: the roles of its columns, their shapes, the location of its rows, and its
 * identity. Values are mapped and gathered natively; none of them passes through this file.
 */
import type { Config } from '../config/schema.js';
import { OrchestratorError, refuse } from '../errors.js';
import { canonicalHash } from '../files/hash.js';
import { totalBytes } from '../memory/parts.js';
import type { TextSpec } from '../native/contract.js';
import { datasetSpec, joinColumn, type TableColumn } from './column.js';
import { openSource } from './formats.js';
import { CAPTION_KINDS, TEXT_COLUMNS, type TextColumn } from './manifest.js';
import type { Columns, DataSource } from './source.js';
import { verifyFiles } from './verify.js';

/** The part of `config.data` that describes where the data is and what it is. */
export type DataConfig = Pick<Config['data'], 'path' | 'columns' | 'latent_shape' | 'text_shape'>;

/** A data set as its metadata describes it; no value was read, and `hash()` may read much of the files. */
export type DescribedDataset = ReturnType<typeof describe>;

/** A data set that was opened for training. */
export type OpenDataset = Awaited<ReturnType<typeof openDataset>>;

/** The key that gives the shape of a row, by its dimensions. */
const SHAPE_KEYS: Readonly<Record<number, string>> = { 2: 'data.text_shape', 3: 'data.latent_shape' };

type Shapes = ReadonlyMap<string, readonly number[]>;

/**
 * Data sets up to this size are verified when they are opened, which takes about two seconds; larger ones by
 * `orchestrator dataset verify`.
 */
const VERIFY_AT_OPENING_BYTES = 2 * 2 ** 30;

/**
 * Opens a data set of any format. The files of a small one are compared with their recorded hashes.
 * ERR_FILE_* and ERR_DATA_* name file, column and row.
 */
export async function openDataset(config: DataConfig) {
  const source = openSource(config.path);
  const columns = source.roles(config.columns);
  await verifySmall(source);
  const described = describe(source, columns, config);
  return { ...described, hash: await described.hash() };
}

async function verifySmall(source: DataSource): Promise<void> {
  if (totalBytes(source.files) <= VERIFY_AT_OPENING_BYTES) await verifyFiles(source, null);
}

/** Reads the metadata of a data set of any format, which is quick for any size. */
export function describeDataset(config: DataConfig): DescribedDataset {
  const source = openSource(config.path);
  return describe(source, source.roles(config.columns), config);
}

function describe(source: DataSource, columns: Columns, config: DataConfig) {
  const roles = rolesOf(columns, config);
  const table = roles.map(({ name, column, configured }) => joinColumn(source, name, column, configured));
  const shapes = chooseShapes(source, roles, table);
  if (columns.synthetic) requireEqualShapes(source, shapes);
  const used = { columns, shapes: [...shapes] };
  return {
    spec: datasetSpec(source, table),
    /** Identity of the data, 64 hexadecimal digits; equal for equal data. */
    hash: async (progress: ((bytes: number) => void) | null = null): Promise<string> =>
      canonicalHash({ format: source.format.name, columns: used, ...(await source.identity(progress)) }),
    /** Compares the files of a small data set with their recorded hashes. */
    verify: () => verifySmall(source),
    /** Bytes that `hash` reads. */
    hashedBytes: source.identityBytes,
    rows: source.rows,
    /** [channels, height, width]. */
    latent: shapes.get('latent') as [number, number, number],
    text: textSpec(source, shapes),
    encoders: source.encoders,
    hasSynthetic: columns.synthetic !== null,
    /** Ids of rows for reports: values of the id column, or row numbers. */
    ids: (rows: number[]) => rows.map((row) => (columns.id ? source.label(columns.id, row) : String(row))),
  };
}

interface Role {
  /** "latent", "original.t5", ... */
  name: string;
  column: string;
  /** Dimensions of a row. */
  rank: number;
  configured: readonly number[] | null;
}

/** What the columns are for: the latent, then the text columns of each caption. */
function rolesOf(columns: Columns, { latent_shape, text_shape }: DataConfig): Role[] {
  const configured: Partial<Record<TextColumn, readonly number[]>> = text_shape ?? {};
  const roles: Role[] = [{ name: 'latent', column: columns.latent, rank: 3, configured: latent_shape }];
  for (const kind of CAPTION_KINDS) {
    for (const feature of columns[kind] ? TEXT_COLUMNS : []) {
      roles.push({
        name: `${kind}.${feature}`,
        column: columns[kind]![feature],
        rank: feature.endsWith('_pooled') ? 1 : 2,
        configured: configured[feature] ?? null,
      });
    }
  }
  return roles;
}

/** The shapes that have the dimensions of their roles. Every column without one is reported. */
function chooseShapes(source: DataSource, roles: readonly Role[], table: readonly TableColumn[]): Shapes {
  const shapes = new Map<string, readonly number[]>();
  const problems: OrchestratorError[] = [];
  for (const [i, { name, column, rank }] of roles.entries()) {
    const stated = table[i]!.shapes;
    const shape = stated.find(({ length }) => length === rank);
    if (shape) {
      shapes.set(name, shape);
      continue;
    }
    const key = SHAPE_KEYS[rank];
    const hint = key === undefined ? null : `Flat lists have no shape: set ${key} in the configuration`;
    problems.push(
      new OrchestratorError(
        'ERR_DATA_SHAPE',
        `${source.files[0]!.path}, column "${column}" (${name}), row 0: expected a shape of ${rank} ` +
          `dimensions, received ${stated.at(-1)!.join(' x ')}`,
        problems.some((other) => other.hint === hint) ? null : hint,
      ),
    );
  }
  refuse(problems);
  return shapes;
}

function requireEqualShapes(source: DataSource, shapes: Shapes): void {
  for (const feature of TEXT_COLUMNS) {
    const [original, synthetic] = CAPTION_KINDS.map((kind) => shapes.get(`${kind}.${feature}`)!.join(' x '));
    if (original === synthetic) continue;
    throw new OrchestratorError(
      'ERR_DATA_SHAPE',
      `${source.path}, column ${feature} of the synthetic caption, row 0: expected ${original} as for ` +
        `the original caption, received ${synthetic}`,
    );
  }
}

function textSpec({ path }: DataSource, shapes: Shapes): TextSpec {
  const shapeOf = (feature: TextColumn) => shapes.get(`original.${feature}`) as [number, number];
  const [clipTokens, clipLDim] = shapeOf('clip_l');
  const [clipGTokens, clipGDim] = shapeOf('clip_g');
  const [t5Tokens, t5Dim] = shapeOf('t5');
  if (clipTokens !== clipGTokens) {
    throw new OrchestratorError(
      'ERR_DATA_SHAPE',
      `${path}: CLIP-L has ${clipTokens} tokens and CLIP-G ${clipGTokens}; they are concatenated by channel, so the numbers must be equal`,
    );
  }
  if (clipLDim + clipGDim > t5Dim) {
    throw new OrchestratorError(
      'ERR_DATA_SHAPE',
      `${path}: CLIP-L and CLIP-G are ${clipLDim} + ${clipGDim} channels wide, more than T5's ${t5Dim}, to which they are padded`,
    );
  }
  const [[clipLPooledDim], [clipGPooledDim]] = [shapeOf('clip_l_pooled'), shapeOf('clip_g_pooled')];
  return { clipTokens, t5Tokens, clipLDim, clipGDim, t5Dim, clipLPooledDim, clipGPooledDim };
}
