/**
 * A data set for training: which columns play which role, their shapes, where their rows lie, and what tells it from
 * others. Values are mapped and gathered natively; none of them passes through here.
 */

import type { Config } from '../config/schema.js';
import { OrchestratorError } from '../errors.js';
import type { ColumnSpec, DatasetSpec, TextSpec } from '../native/contract.js';
import { native } from '../native/load.js';
import { type CheckListOffsets, LabelColumn, numericColumn } from './arrow-columns.js';
import { datasetHash } from './hash.js';
import { CAPTION_KINDS, type CaptionKind, TEXT_COLUMNS, type TextColumn } from './manifest.js';
import { type DataSource, openSource } from './source.js';
import { verifyIfSmall } from './verify.js';

/** The part of `config.data` that says where the data is and what it is. */
export type DataConfig = Pick<Config['data'], 'path' | 'columns' | 'latent_shape' | 'text_shape'>;

export interface OpenDataset {
  spec: DatasetSpec;
  /** 64 hexadecimal digits; equal for equal data. */
  hash: string;
  rows: number;
  /** [channels, height, width]. */
  latent: [number, number, number];
  text: TextSpec;
  hasSynthetic: boolean;
  /** Whether every byte was compared with the manifest's hashes at opening. */
  verified: boolean;
  /** Identity of rows for reports: the id column's value, or the row number. */
  ids(rows: number[]): string[];
  /** A row's captions, where the data set keeps them. */
  captions(row: number): Record<CaptionKind, string | null>;
}

type Columns = NonNullable<DataConfig['columns']>;
type Shapes = Record<TextColumn, number[]>;

/**
 * Opens a folder of the project's own format or of Hugging Face's. Own data sets of up to 2 GiB are compared with
 * their hashes. Throws ERR_FILE_* and ERR_DATA_*; messages name file, column and row.
 */
export async function openDataset(config: DataConfig): Promise<OpenDataset> {
  const source = openSource(config.path);
  const columns = columnsOf(source, config);
  const verified = await verifyIfSmall(source);
  const table = columnTable(source, columns, config);
  const shapes = textShapes(table, 'original');
  if (columns.synthetic) requireEqualShapes(source, shapes, textShapes(table, 'synthetic'));
  const spec: DatasetSpec = {
    files: source.files.map(({ path, bytes }) => ({ path, bytes })),
    rows: source.rows,
    columns: table.map(({ spec }) => spec),
  };
  const used = { columns, shapes: table.map(({ spec, shape }) => [spec.role, shape]) };
  return {
    spec,
    hash: await datasetHash(source, used),
    rows: source.rows,
    latent: table[0]!.shape as [number, number, number],
    text: textSpec(source, shapes),
    hasSynthetic: columns.synthetic !== null,
    verified,
    ids: (rows) => (columns.id ? readLabels(source, columns.id, rows) : rows.map(String)),
    captions: (row) => ({
      original: caption(source, 'original', row),
      synthetic: caption(source, 'synthetic', row),
    }),
  };
}

/** Column names by role: the configuration's for foreign folders, the format's own otherwise. */
function columnsOf(source: DataSource, config: DataConfig): Columns {
  if (source.format === 'huggingface') {
    if (config.columns) return config.columns;
    const names = source.files[0]?.fields.map((field) => field.name).join(', ');
    throw new OrchestratorError(
      'ERR_DATA_COLUMN',
      `${source.path} is a Hugging Face folder: data.columns must say which column plays which role`,
      {
        hint: `Its columns: ${names}.`,
      },
    );
  }
  if (config.columns) {
    throw new OrchestratorError(
      'ERR_CONFIG',
      `data.columns must be null for ${source.path}, whose manifest names the columns`,
    );
  }
  const names = new Set(source.manifest?.columns.map((column) => column.name));
  const captionColumns = (kind: CaptionKind) =>
    Object.fromEntries(TEXT_COLUMNS.map((column) => [column, `${kind}.${column}`])) as Columns['original'];
  return {
    id: names.has('id') ? 'id' : null,
    latent: 'latent',
    original: captionColumns('original'),
    synthetic: TEXT_COLUMNS.some((column) => names.has(`synthetic.${column}`))
      ? captionColumns('synthetic')
      : null,
  };
}

interface TableColumn {
  spec: ColumnSpec;
  /** Of a row. */
  shape: number[];
}

/** The latent first, then the text columns of each caption. */
function columnTable(source: DataSource, columns: Columns, config: DataConfig): TableColumn[] {
  const text = config.text_shape;
  const shapeOf = (column: TextColumn) =>
    column in (text ?? {}) ? text![column as keyof typeof text] : null;
  const table = [numeric(source, 'latent', columns.latent, 3, config.latent_shape)];
  for (const kind of CAPTION_KINDS) {
    const names = columns[kind];
    if (!names) continue;
    for (const column of TEXT_COLUMNS) {
      const rank = column.endsWith('_pooled') ? 1 : 2;
      table.push(numeric(source, `${kind}.${column}`, names[column], rank, shapeOf(column)));
    }
  }
  return table;
}

/** One column over all files, with rows of `rank` dimensions: configured, stated by the folder, or as nested. */
function numeric(
  source: DataSource,
  role: string,
  name: string,
  rank: 1 | 2 | 3,
  configured: readonly number[] | null,
): TableColumn {
  const check: CheckListOffsets = (...parameters) => native().checkListOffsets(...parameters);
  const stated = source.shapes.get(name) ?? null;
  let first: { type: ColumnSpec['type']; shape: number[] } | null = null;
  const spec: ColumnSpec = { role, type: 'float16', width: 0, segments: [] };
  let row = 0;
  for (const [number, file] of source.files.entries()) {
    const column = numericColumn(file, name, check);
    if (column.segments.length === 0) continue;
    const where = `${file.path}, column "${name}", row ${row}`;
    for (const wanted of [configured, stated]) if (wanted) requireShape(where, column.shape, wanted);
    first ??= { type: column.type, shape: column.shape };
    if (column.type !== first.type) {
      throw new OrchestratorError(
        'ERR_DATA_TYPE',
        `${where}: expected ${first.type} as in the files before, received ${column.type}`,
      );
    }
    requireShape(where, column.shape, first.shape);
    for (const segment of column.segments) {
      spec.segments.push({ ...segment, file: number, firstRow: row + segment.firstRow });
    }
    row += file.rows;
  }
  const candidates = [configured, stated, first?.shape ?? null];
  const shape = candidates.find((candidate) => candidate?.length === rank);
  if (!first || !shape) {
    const key = rank === 3 ? 'data.latent_shape' : 'data.text_shape';
    throw new OrchestratorError(
      'ERR_DATA_SHAPE',
      `${source.files[0]!.path}, column "${name}" (${role}), row 0: expected a shape of ${rank} dimensions, received ${first?.shape.join(' x ')}`,
      rank === 1 ? {} : { hint: `Flat lists carry no shape: set ${key} in the configuration.` },
    );
  }
  spec.type = first.type;
  spec.width = product(shape);
  return { spec, shape: [...shape] };
}

/** A flat list may stand for any shape of as many elements; a nested one says its shape itself. */
function requireShape(where: string, actual: readonly number[], wanted: readonly number[]): void {
  if (product(actual) === product(wanted)) {
    if (actual.length === 1 || wanted.length === 1 || actual.join() === wanted.join()) return;
  }
  throw new OrchestratorError(
    'ERR_DATA_SHAPE',
    `${where}: expected ${wanted.join(' x ')} elements, received ${actual.join(' x ')}`,
  );
}

function textShapes(table: TableColumn[], kind: CaptionKind): Shapes {
  const shape = (column: TextColumn) => table.find(({ spec }) => spec.role === `${kind}.${column}`)!.shape;
  return Object.fromEntries(TEXT_COLUMNS.map((column) => [column, shape(column)])) as Shapes;
}

function requireEqualShapes(source: DataSource, original: Shapes, synthetic: Shapes): void {
  for (const column of TEXT_COLUMNS) {
    if (original[column].join() === synthetic[column].join()) continue;
    throw new OrchestratorError(
      'ERR_DATA_SHAPE',
      `${source.path}, column ${column} of the synthetic caption, row 0: expected ${original[column].join(' x ')} as for ` +
        `the original caption, received ${synthetic[column].join(' x ')}`,
    );
  }
}

function textSpec(source: DataSource, shapes: Shapes): TextSpec {
  const [clipTokens, clipLDim] = shapes.clip_l as [number, number];
  const [clipGTokens, clipGDim] = shapes.clip_g as [number, number];
  const [t5Tokens, t5Dim] = shapes.t5 as [number, number];
  if (clipTokens !== clipGTokens) {
    throw new OrchestratorError(
      'ERR_DATA_SHAPE',
      `${source.path}: CLIP-L has ${clipTokens} tokens and CLIP-G ${clipGTokens}; they are joined by channel, so the numbers must agree`,
    );
  }
  if (clipLDim + clipGDim > t5Dim) {
    throw new OrchestratorError(
      'ERR_DATA_SHAPE',
      `${source.path}: CLIP-L and CLIP-G are ${clipLDim} + ${clipGDim} channels wide, more than T5's ${t5Dim} that they are padded to`,
    );
  }
  return {
    clipTokens,
    t5Tokens,
    clipLDim,
    clipGDim,
    t5Dim,
    clipLPooledDim: shapes.clip_l_pooled[0]!,
    clipGPooledDim: shapes.clip_g_pooled[0]!,
  };
}

/** Values of a label column at rows of the whole data set, in the order asked for. */
function readLabels(source: DataSource, name: string, rows: number[]): string[] {
  return rows.map((row) => {
    let local = row;
    for (const file of source.files) {
      if (local < file.rows) return new LabelColumn(file, name).read([local])[0]!;
      local -= file.rows;
    }
    throw new OrchestratorError('ERR_DATA_ROW', `${source.path} has no row ${row}; it has ${source.rows}`);
  });
}

function caption(source: DataSource, kind: CaptionKind, row: number): string | null {
  const name = `${kind}.caption`;
  if (!source.manifest?.columns.some((column) => column.name === name)) return null;
  return readLabels(source, name, [row])[0]!;
}

function product(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}
