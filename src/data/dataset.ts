/**
 * A data set for training: the roles of its columns, their shapes, the location of its rows, and its
 * identity. Values are mapped and gathered natively; none of them passes through this file.
 */
import type { Config } from '../config/schema.js';
import { OrchestratorError } from '../errors.js';
import { LabelColumn } from '../formats/arrow/columns.js';
import type { DatasetSpec, TextSpec } from '../native/contract.js';
import { joinColumn, type TableColumn } from './column.js';
import { datasetHash } from './identity.js';
import { CAPTION_KINDS, type CaptionKind, type Encoders, TEXT_COLUMNS, type TextColumn } from './manifest.js';
import { type DataSource, openSource } from './source.js';
import { verifyIfSmall } from './verify.js';

/** The part of `config.data` that describes where the data is and what it is. */
export type DataConfig = Pick<Config['data'], 'path' | 'columns' | 'latent_shape' | 'text_shape'>;

/** A data set that was opened for training. */
export interface OpenDataset {
  spec: DatasetSpec;
  /** Identity of the data, 64 hexadecimal digits; equal for equal data. */
  hash: string;
  rows: number;
  /** [channels, height, width]. */
  latent: [number, number, number];
  text: TextSpec;
  /** Names of the text encoders; null if the data set does not name them. */
  encoders: Record<'clip_l' | 'clip_g' | 't5', string> | null;
  hasSynthetic: boolean;
  /** Ids of rows for reports: values of the id column, or row numbers. */
  ids(rows: number[]): string[];
  /** A row's captions, if the data set has them. */
  captions(row: number): Record<CaptionKind, string | null>;
}

type Columns = NonNullable<DataConfig['columns']>;
type Shapes = Record<TextColumn, number[]>;

/**
 * Opens a folder in the project's own format or in Hugging Face's. If hashes are recorded, up to 2 GiB are
 * compared with them, unless `verify` is false.
 *
 * @throws OrchestratorError ERR_FILE_*, ERR_DATA_*: messages name file, column and row.
 */
export async function openDataset(config: DataConfig, { verify = true } = {}): Promise<OpenDataset> {
  const source = openSource(config.path);
  const columns = columnsOf(source, config);
  if (verify) await verifyIfSmall(source);
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
    encoders: source.manifest && encoderNames(source.manifest.encoders),
    hasSynthetic: columns.synthetic !== null,
    ids: (rows) => (columns.id ? readLabels(source, columns.id, rows) : rows.map(String)),
    captions: (row) => ({
      original: caption(source, 'original', row),
      synthetic: caption(source, 'synthetic', row),
    }),
  };
}

function encoderNames({ clip_l, clip_g, t5 }: Encoders): NonNullable<OpenDataset['encoders']> {
  return { clip_l: clip_l.name, clip_g: clip_g.name, t5: t5.name };
}

/**
 * Column names by role: those of the configuration for Hugging Face folders, those of the format otherwise.
 */
function columnsOf(source: DataSource, config: DataConfig): Columns {
  if (source.format === 'huggingface') {
    if (config.columns) return config.columns;
    const names = source.files[0]?.fields.map((field) => field.name).join(', ');
    throw new OrchestratorError(
      'ERR_DATA_COLUMN',
      `${source.path} is a Hugging Face folder: data.columns must give the role of each column`,
      `It has the columns ${names}`,
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

/** The latent first, then the text columns of each caption. */
function columnTable(source: DataSource, columns: Columns, config: DataConfig): TableColumn[] {
  const text = config.text_shape;
  const shapeOf = (column: TextColumn) =>
    column in (text ?? {}) ? text![column as keyof typeof text] : null;
  const table = [joinColumn(source, 'latent', columns.latent, 3, config.latent_shape)];
  for (const kind of CAPTION_KINDS) {
    const names = columns[kind];
    if (!names) continue;
    for (const column of TEXT_COLUMNS) {
      const rank = column.endsWith('_pooled') ? 1 : 2;
      table.push(joinColumn(source, `${kind}.${column}`, names[column], rank, shapeOf(column)));
    }
  }
  return table;
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
      `${source.path}: CLIP-L has ${clipTokens} tokens and CLIP-G ${clipGTokens}; they are concatenated by channel, so the numbers must be equal`,
    );
  }
  if (clipLDim + clipGDim > t5Dim) {
    throw new OrchestratorError(
      'ERR_DATA_SHAPE',
      `${source.path}: CLIP-L and CLIP-G are ${clipLDim} + ${clipGDim} channels wide, more than T5's ${t5Dim}, to which they are padded`,
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

/** The values of a label column at rows of the whole data set, in the given order. */
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
