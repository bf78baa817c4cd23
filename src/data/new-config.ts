/** A configuration for a data set: what its columns are probably for, by their names and shapes. */
import { parse } from 'yaml';
import { JOINED_COLUMNS, TEXT_COLUMNS } from '../config/schema.js';
import { OrchestratorError } from '../errors.js';
import { joinColumn, product, type TableColumn } from './column.js';
import { numericColumns } from './inspect.js';
import { CAPTION_KINDS, type CaptionKind } from './manifest.js';
import { statesRoles } from './roles.js';
import type { DataSource } from './source.js';

type Feature = (typeof TEXT_COLUMNS)[number] | (typeof JOINED_COLUMNS)[number];

/** How people call the features of a caption; the first column that matches has the role. */
const FEATURES: Readonly<Record<Feature, RegExp>> = {
  clip_l_pooled: /clip_?l.*pool|pool.*clip_?l/,
  clip_g_pooled: /clip_?(?:big)?g.*pool|pool.*clip_?(?:big)?g/,
  clip_l: /clip_?l/,
  clip_g: /clip_?(?:big)?g/,
  t5: /t5/,
  pooled: /pooled/,
  context: /prompt_emb|text_emb|caption_emb|context|encoder_hidden/,
};
const LATENT = /latent|moments/;
/** Columns that hold means and log-variances. */
const POSTERIOR = /moments|logvar|posterior/;
const ID = /^(?:id|uid|key|_*key_*|image_id|sample_id|index)$/;
/** Columns of a second caption, which a model wrote. */
const SYNTHETIC = /synth|recap|generated|vlm|blip|llava|cogvlm/;

/** Width of T5-XXL's features, with which the released models were trained. */
const T5_WIDTH = 4096;
const MOST_VALIDATION_ROWS = 256;
/** Share of the rows to hold out where there are few. */
const VALIDATION_SHARE = 1 / 10;

/** What remains for the user to say. */
const UNKNOWN = 'COLUMN';

/** The lines of `data:`, sentences about what could not be told, and the rows that are left to train on. */
export function newDataSection(source: DataSource) {
  const notes: string[] = [];
  const lines = [`path: ${text(source.path)}`];
  if (!statesRoles(source)) lines.push(...columnLines(source, notes));
  const held = Math.min(MOST_VALIDATION_ROWS, Math.floor(VALIDATION_SHARE * source.rows));
  if (held < MOST_VALIDATION_ROWS) lines.push(`validation_rows: ${held}`);
  return { lines: ['data:', ...lines.map((line) => `  ${line}`)], notes, trainingRows: source.rows - held };
}

function columnLines(source: DataSource, notes: string[]): string[] {
  const { columns, problems } = numericColumns(source);
  const numeric = new Map(columns.map((column) => [column.spec.role, column]));
  const bfloat16 = new Set<string>();
  for (const name of problems.keys()) {
    const column = asBfloat16(source, name);
    if (column === null) continue;
    numeric.set(name, column);
    bfloat16.add(name);
  }
  const free = new Set(numeric.keys());
  const take = (pattern: RegExp, fits: (name: string) => boolean = () => true) => {
    const found = [...free].find((name) => pattern.test(normalised(name)) && fits(name));
    if (found !== undefined) free.delete(found);
    return found ?? null;
  };
  const latent = take(LATENT);
  const captions = CAPTION_KINDS.map((kind) => [kind, captionColumns(kind, take)] as const);
  const id = source.columns.find(({ name }) => ID.test(normalised(name)) && !numeric.has(name))?.name ?? null;
  const [[, original]] = captions as [readonly [CaptionKind, Map<Feature, string | null>]];
  const chosen = [latent, ...original.values()];
  if (chosen.includes(null)) {
    const names = source.columns.map(({ name }) => name).join(', ');
    notes.push(`Some columns could not be told: put one of ${names} where ${UNKNOWN} is`);
  }
  return [
    'columns:',
    ...(id === null ? [] : [`  id: ${text(id)}`]),
    `  latent: ${text(latent)}`,
    ...captions
      .filter(([kind, columns]) => kind === 'original' || ![...columns.values()].includes(null))
      .map(([kind, columns]) => `  ${kind}: ${mapping(columns)}`),
    ...(latent !== null && POSTERIOR.test(normalised(latent)) ? ['latent_form: mean_logvar'] : []),
    ...bfloat16Line(chosen.filter((name) => name !== null && bfloat16.has(name))),
    ...shapeLines(numeric, latent, original, notes),
  ];
}

/** A column of 16-bit integers or of bytes, which may be the bits of bfloat16; null if it is none. */
function asBfloat16(source: DataSource, name: string): TableColumn | null {
  try {
    return joinColumn(source, name, name, null, { bfloat16: true });
  } catch (error) {
    if (error instanceof OrchestratorError) return null;
    throw error;
  }
}

function bfloat16Line(names: readonly (string | null)[]): string[] {
  return names.length === 0 ? [] : [`bfloat16: [${names.map(text).join(', ')}]`];
}

type Take = (pattern: RegExp, fits: (name: string) => boolean) => string | null;

/** One column for each feature of a caption, or joined ones where those are there instead. */
function captionColumns(kind: CaptionKind, take: Take): Map<Feature, string | null> {
  const isOf = (name: string) => SYNTHETIC.test(normalised(name)) === (kind === 'synthetic');
  const found = (Object.keys(FEATURES) as Feature[]).map(
    (feature) => [feature, take(FEATURES[feature], isOf)] as const,
  );
  const columns = new Map(found);
  const isJoined = columns.get('context') !== null && columns.get('pooled') !== null;
  const wanted: readonly Feature[] = isJoined ? JOINED_COLUMNS : TEXT_COLUMNS;
  return new Map(wanted.map((feature) => [feature, columns.get(feature)!]));
}

/** Shapes for columns that are flat lists, where they can be told. */
function shapeLines(
  numeric: ReadonlyMap<string, TableColumn>,
  latent: string | null,
  caption: ReadonlyMap<Feature, string | null>,
  notes: string[],
): string[] {
  const flatWidth = (name: string | null | undefined): number | null => {
    const shapes = name == null ? undefined : numeric.get(name)?.shapes;
    return shapes?.every(({ length }) => length === 1) ? product(shapes[0]!) : null;
  };
  const lines: string[] = [];
  const latentWidth = flatWidth(latent);
  if (latentWidth !== null) {
    const side = Math.sqrt(latentWidth / 16);
    const shape = Number.isInteger(side) ? `[16, ${side}, ${side}]` : '[CHANNELS, HEIGHT, WIDTH]';
    lines.push(`latent_shape: ${shape}`);
    notes.push(`Latents are flat lists of ${latentWidth}: check data.latent_shape`);
  }
  const features = ['clip_l', 'clip_g', 't5'] as const;
  const flat = features.map((feature) => flatWidth(caption.get(feature)));
  if (flat.every((width) => width === null)) return lines;
  const shapes = features.map((feature, i) => {
    const nested = numeric
      .get(caption.get(feature) ?? '')
      ?.shapes.at(-1)
      ?.slice(-2);
    const pooled = numeric.get(caption.get(`${feature}_pooled` as Feature) ?? '')?.shapes[0];
    const width = feature === 't5' ? T5_WIDTH : pooled && product(pooled);
    const tokens = (flat[i] ?? 0) / (width ?? 0);
    const told =
      flat[i] === null ? nested!.join(', ') : Number.isInteger(tokens) ? `${tokens}, ${width}` : null;
    return `${feature}: [${told ?? 'TOKENS, WIDTH'}]`;
  });
  lines.push(`text_shape: {${shapes.join(', ')}}`);
  notes.push('Text features are flat lists: check data.text_shape, [tokens, width] of each');
  return lines;
}

function normalised(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9]+/g, '_');
}

function text(name: string | null): string {
  return name === null ? UNKNOWN : yamlText(name);
}

/** A name or path as YAML, quoted where it would not be read as this text: "1e5", "null", "a, b". */
export function yamlText(name: string): string {
  return /^[\w./~][\w./~-]*$/.test(name) && parse(name) === name ? name : JSON.stringify(name);
}

function mapping(columns: ReadonlyMap<string, string | null>): string {
  return `{${[...columns].map(([key, name]) => `${key}: ${text(name)}`).join(', ')}}`;
}
