/** The roles of a data set's columns, and the shapes of their rows. */
import { type Config, JOINED_COLUMNS, TEXT_COLUMNS } from '../config/schema.js';
import { OrchestratorError, refuse } from '../errors.js';
import type { TextSpec } from '../native/contract.js';
import { ELEMENT_BYTES } from '../native/dataset-contract.js';
import { joinColumn, product, type TableColumn, trimmed } from './column.js';
import { CAPTION_KINDS, type CaptionKind } from './manifest.js';
import type { CaptionColumns, Columns, DataSource } from './source.js';

/** The part of `config.data` that describes where the data is and what it is. */
export type DataConfig = Pick<Config['data'], 'path' | 'columns' | 'latent_shape' | 'text_shape'> &
  Partial<Pick<Config['data'], 'latent_form' | 'latent_shift' | 'latent_scale' | 'bfloat16'>>;

type Feature = keyof CaptionColumns;

/** What a column is for. */
interface Role {
  /** "latent", "original.t5", "synthetic.context", ... */
  name: string;
  column: string;
  /** Dimensions of a row. */
  rank: number;
  configured: readonly number[] | null;
  /** Elements of a row where nothing else says it, which tells the type of bytes. */
  elements: number | null;
}

/** A role's column, with the one shape of its rows. */
export interface RoleColumn {
  name: string;
  /** The name of the column. */
  column: string;
  table: TableColumn;
  shape: readonly number[];
}

/** The key that gives the shape of a row, by its dimensions. */
const SHAPE_KEYS: Readonly<Record<number, string>> = { 2: 'data.text_shape', 3: 'data.latent_shape' };

/** The widths of SD3's encoders, which split joined features where the configuration does not. */
const RELEASED = { clipTokens: 77, clipLDim: 768, clipGDim: 1280, t5Dim: 4096 };

/**
 * The columns of all roles, each read and with its shape; every one that cannot be read or has no shape is
 * reported. ERR_DATA_*.
 */
export function roleColumns(
  source: DataSource,
  columns: Columns,
  config: DataConfig,
  placeOf: (key: string) => string = () => '',
): RoleColumn[] {
  const problems: OrchestratorError[] = [];
  const found = rolesOf(columns, config).flatMap((role): RoleColumn[] => {
    const { name, column, configured, elements } = role;
    const bfloat16 = config.bfloat16?.includes(column) === true;
    let table: TableColumn;
    try {
      table = joinColumn(source, name, column, configured, { bfloat16, elements });
    } catch (error) {
      problems.push(atColumn(error, name, config, placeOf));
      return [];
    }
    const shape = table.shapes
      .map((stated) => trimmed(stated, role.rank))
      .find((s) => s.length === role.rank);
    if (shape) return [{ name, column, table, shape }];
    problems.push(shapeless(source, role, table, problems));
    return [];
  });
  refuse(problems);
  const isJoint = config.latent_form === 'mean_logvar' && columns.latent_logvar === null;
  return isJoint ? found.flatMap((role) => (role.name === 'latent' ? halves(source, role) : [role])) : found;
}

/** Whether the metadata says what the columns are for. */
export function statesRoles(source: DataSource): boolean {
  try {
    source.roles(null);
    return true;
  } catch (error) {
    if (error instanceof OrchestratorError && error.code === 'ERR_DATA_COLUMN') return false;
    throw error;
  }
}

/** Refuses an id column whose values have no text. ERR_DATA_*. */
export function checkIds(
  source: DataSource,
  { id }: Columns,
  config: DataConfig,
  placeOf: (key: string) => string,
): void {
  if (id === null || source.rows === 0) return;
  try {
    source.label(id, 0);
  } catch (error) {
    throw atColumn(error, 'id', config, placeOf);
  }
}

/** The same error with the key of the configuration that names the column, if one does. */
function atColumn(
  error: unknown,
  role: string,
  { columns }: DataConfig,
  placeOf: (key: string) => string,
): OrchestratorError {
  if (!(error instanceof OrchestratorError)) throw error;
  if (columns === null) return error;
  const key = `data.columns.${role}`;
  const message = `${key}${placeOf(key)}: ${error.message}`;
  return new OrchestratorError(error.code, message, { hint: error.hint, cause: error });
}

/** The latent, then the text columns of each caption. */
function rolesOf(columns: Columns, { latent_shape, latent_form, text_shape }: DataConfig): Role[] {
  const joint = latent_form === 'mean_logvar' && columns.latent_logvar === null;
  const latent = latent_shape && joint ? [2 * latent_shape[0], ...latent_shape.slice(1)] : latent_shape;
  const roles: Role[] = [
    { name: 'latent', column: columns.latent, rank: 3, configured: latent, elements: null },
  ];
  if (columns.latent_logvar !== null) {
    roles.push({ ...roles[0]!, name: 'latent_logvar', column: columns.latent_logvar });
  }
  const shapes = textShapes(text_shape);
  for (const kind of CAPTION_KINDS) {
    for (const feature of featuresOf(columns[kind])) {
      const rank = feature.includes('pooled') ? 1 : 2;
      const shape = shapes[feature] ?? null;
      roles.push({
        ...{ name: `${kind}.${feature}`, column: columns[kind]![feature]!, rank },
        configured: rank === 1 ? null : shape,
        elements: shape && product(shape),
      });
    }
  }
  return roles;
}

/** The features that a caption has columns for. */
function featuresOf(caption: CaptionColumns | null): Feature[] {
  return ([...TEXT_COLUMNS, ...JOINED_COLUMNS] as Feature[]).filter((name) => caption?.[name] != null);
}

/** The shapes of features that `data.text_shape` states; pooled vectors are as wide as their tokens. */
function textShapes(shape: DataConfig['text_shape']): Partial<Record<Feature, readonly number[]>> {
  if (shape === null) return {};
  const { clip_l, clip_g, t5 } = shape;
  return {
    ...{ clip_l, clip_g, t5, clip_l_pooled: [clip_l[1]], clip_g_pooled: [clip_g[1]] },
    ...{ context: [clip_l[0] + t5[0], t5[1]], pooled: [clip_l[1] + clip_g[1]] },
  };
}

function shapeless(
  source: DataSource,
  { name, column, rank }: Role,
  { shapes }: TableColumn,
  before: readonly OrchestratorError[],
): OrchestratorError {
  const key = SHAPE_KEYS[rank];
  const hint = key === undefined ? null : `Flat lists have no shape: set ${key} in the configuration`;
  return new OrchestratorError(
    'ERR_DATA_SHAPE',
    `${source.files[0]!.path}, column "${column}" (${name}), row 0: expected a shape of ${rank} ` +
      `dimension${rank === 1 ? '' : 's'}, received ${shapes.at(-1)!.join(' x ')}`,
    before.some((other) => other.hint === hint) ? null : hint,
  );
}

/** The mean and the log-variance that one column holds, [2 x channels, height, width], as two roles. */
function halves(source: DataSource, { column, table: { spec }, shape }: RoleColumn): RoleColumn[] {
  const [channels, ...sides] = shape as [number, number, number];
  if (channels % 2 !== 0) {
    throw new OrchestratorError(
      'ERR_DATA_SHAPE',
      `${source.files[0]!.path}, column "${column}" (latent): ${shape.join(' x ')} does not split into means and log-variances`,
      'Set data.latent_form to value, or name the column of the log-variances in data.columns.latent_logvar',
    );
  }
  const half = [channels / 2, ...sides];
  const width = product(half);
  return ['latent', 'latent_logvar'].map((name, i) => {
    const segments = spec.segments.map((value, at) =>
      at % 4 === 3 ? value + i * width * ELEMENT_BYTES[spec.type] : value,
    );
    return {
      name,
      column,
      shape: half,
      table: { spec: { ...spec, role: name, width, segments }, shapes: [half] },
    };
  });
}

/** The shapes of the text that the model is given, the same for all captions. ERR_DATA_SHAPE. */
export function textSpec(source: DataSource, roles: readonly RoleColumn[], config: DataConfig): TextSpec {
  const shapes = new Map(roles.map(({ name, shape }) => [name, shape]));
  const kinds = CAPTION_KINDS.filter((kind) => roles.some(({ name }) => name.startsWith(`${kind}.`)));
  const [original, synthetic] = kinds.map((kind) => captionSpec(source.path, kind, shapes, config));
  for (const [key, value] of Object.entries(synthetic ?? {})) {
    const other = original![key as keyof TextSpec];
    if (other === value) continue;
    throw new OrchestratorError(
      'ERR_DATA_SHAPE',
      `${source.path}: ${key} of the synthetic caption is ${value}; expected ${other} as for the original caption`,
    );
  }
  return original!;
}

function captionSpec(
  path: string,
  kind: CaptionKind,
  shapes: ReadonlyMap<string, readonly number[]>,
  config: DataConfig,
): TextSpec {
  const shapeOf = (feature: Feature) => shapes.get(`${kind}.${feature}`) as [number, number];
  if (shapes.has(`${kind}.context`)) return joinedSpec(path, shapeOf('context'), shapeOf('pooled'), config);
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

/** Where the parts of the encoders are in joined features: as configured, or as in the released models. */
function joinedSpec(
  path: string,
  [tokens, t5Dim]: readonly [number, number],
  [pooled]: readonly [number, number],
  { text_shape }: DataConfig,
): TextSpec {
  const { clipTokens, clipLDim, clipGDim } = text_shape
    ? { clipTokens: text_shape.clip_l[0], clipLDim: text_shape.clip_l[1], clipGDim: text_shape.clip_g[1] }
    : RELEASED;
  const isReleased = t5Dim === RELEASED.t5Dim && pooled === clipLDim + clipGDim && tokens > clipTokens;
  if (text_shape === null && !isReleased) {
    throw new OrchestratorError(
      'ERR_DATA_SHAPE',
      `${path}: joined text features of ${tokens} x ${t5Dim} and ${pooled} do not say which part is whose`,
      'Set data.text_shape: the tokens and widths of clip_l, clip_g and t5',
    );
  }
  if (pooled <= clipLDim) {
    throw new OrchestratorError(
      'ERR_DATA_SHAPE',
      `${path}: the joined pooled vectors have ${pooled} elements, no more than CLIP-L alone (${clipLDim})`,
    );
  }
  return {
    ...{ clipTokens, t5Tokens: tokens - clipTokens, clipLDim, clipGDim, t5Dim },
    ...{ clipLPooledDim: clipLDim, clipGPooledDim: pooled - clipLDim },
  };
}
