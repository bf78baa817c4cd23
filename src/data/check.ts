/** Searches the values of a data set for what a run would stumble over. */
import type { Config } from '../config/schema.js';
import { OrchestratorError } from '../errors.js';
import { type DatasetSpec, ELEMENT_BYTES } from '../native/dataset-contract.js';
import { native } from '../native/load.js';
import { locate, type TableColumn } from './column.js';
import { numericColumns } from './inspect.js';
import { judgesScaling, scalingAdvice } from './latents.js';
import { type DataConfig, type RoleColumn, roleColumns, statesRoles, textSpec } from './roles.js';
import type { DataSource } from './source.js';
import { type ColumnStatistics, scanColumns } from './statistics.js';

/** Bytes read in one call, which cannot be interrupted. */
const BYTES_PER_CALL = 2 ** 24;

export interface Check {
  /** The columns that were judged: those of the roles, or all of numbers where nobody says the roles. */
  judged: readonly TableColumn[];
  /** Whether they have roles. */
  hasRoles: boolean;
  /** Errors that a run would meet. */
  problems: OrchestratorError[];
  /** Whether the configuration skips rows that are not finite, and there are some. */
  skipsRows: boolean;
  /** What a run does not read, or gets over. */
  warnings: string[];
}

/**
 * Checks the columns that a run with this configuration reads, and warns of others. Without a configuration
 * the manifest gives the roles, or every column of numbers is judged. Throws what keeps the data from being
 * opened. `progress` receives the number of rows scanned, where all columns together count as one.
 */
export async function checkColumns(
  source: DataSource,
  config: (DataConfig & Pick<Config['data'], 'on_non_finite'>) | null,
  progress: ((rows: number) => void) | null,
): Promise<Check> {
  const roles = rolesIn(source, config);
  const { columns: numeric, problems: unreadable } = numericColumns(source);
  const names = new Set(roles?.map(({ column }) => column));
  const judged = roles?.map(({ table }) => table) ?? numeric;
  const unused = roles === null ? [] : numeric.filter(({ spec }) => !names.has(spec.role));
  const check: Check = { judged, hasRoles: roles !== null, problems: [], skipsRows: false, warnings: [] };
  for (const [column, { message }] of unreadable) {
    if (names.has(column) || isLabel(source, column)) continue;
    check.warnings.push(
      `${message} (${roles === null ? 'a run cannot use the column as it is' : 'not used'})`,
    );
  }
  if (roles === null && numeric.length === 0) check.warnings.push(`${source.path} has no column of numbers`);
  const scaling = { latentShift: config?.latent_shift ?? 0, latentScale: config?.latent_scale ?? 1 };
  const judges = judgesScaling(source.encoders, scaling);
  const skips = config?.on_non_finite === 'skip';
  const others = unused.map((column) => ({
    ...column,
    spec: { ...column.spec, role: `unused ${column.spec.role}` },
  }));
  for await (const { column, statistics } of scanColumns(source, [...judged, ...others], progress)) {
    const isJudged = judged.includes(column);
    if (statistics.nonFinite > 0) {
      const found = nonFinite(source, column, statistics);
      check.skipsRows ||= isJudged && skips;
      if (isJudged && !skips) check.problems.push(found);
      else check.warnings.push(`${found.message} (${isJudged ? 'skipped: data.on_non_finite' : 'not used'})`);
    }
    const latent = roles?.find(({ name, table }) => name === 'latent' && table === column);
    const advice = judges && latent && scalingAdvice(statistics, latent.shape[0]!, scaling);
    if (advice) check.warnings.push(`${source.path}: ${advice}`);
  }
  return check;
}

/** Whether a column holds texts or integers, which nobody expects to be lists of numbers. */
function isLabel(source: DataSource, column: string): boolean {
  try {
    source.label(column, 0);
    return true;
  } catch (error) {
    if (error instanceof OrchestratorError) return false;
    throw error;
  }
}

/** The columns of the roles; null where neither a configuration nor a manifest names them. */
function rolesIn(source: DataSource, config: DataConfig | null): RoleColumn[] | null {
  if (config === null && !statesRoles(source)) return null;
  const used: DataConfig = config ?? {
    path: source.path,
    columns: null,
    latent_shape: null,
    text_shape: null,
  };
  const roles = roleColumns(source, source.roles(used.columns), used);
  textSpec(source, roles, used);
  return roles;
}

function nonFinite(source: DataSource, { spec }: TableColumn, scan: ColumnStatistics): OrchestratorError {
  const { nonFinite: values, nonFiniteRows: rows, firstNonFiniteRows: listed } = scan;
  const row = listed[0]!;
  const place = locate(spec, source.order === null ? row : source.order[row]!);
  const first = firstRowOf(spec.segments, place.file);
  const inFile = (source.order === null ? row : source.order[row]!) - first;
  const further = rows > 1 ? `; the rows are ${listed.join(', ')}${rows > listed.length ? ', ...' : ''}` : '';
  return new OrchestratorError(
    'ERR_DATA_NON_FINITE',
    `${source.files[place.file]!.path}, column "${spec.role.replace(/^unused /, '')}", row ${row} (row ${inFile} of the file): ` +
      `the first of ${values} values that are not finite, in ${rows} row${rows === 1 ? '' : 's'}${further}`,
    'Mend the rows, or set data.on_non_finite to skip: a run then gives them the weight 0',
  );
}

function firstRowOf(segments: Float64Array, file: number): number {
  for (let at = 0; at < segments.length; at += 4) if (segments[at] === file) return segments[at + 1]!;
  return 0;
}

/** All rows with a value that is not finite in a column of a role. */
export async function nonFiniteRows(spec: DatasetSpec, rows: number): Promise<number[]> {
  const dataset = await native().mapDataset(spec);
  const bytes = spec.columns.reduce((sum, { type, width }) => sum + ELEMENT_BYTES[type] * width, 0);
  const step = Math.max(1, Math.floor(BYTES_PER_CALL / bytes));
  const found: number[] = [];
  try {
    for (let from = 0; from < rows; from += step) {
      const some = Float64Array.from({ length: Math.min(step, rows - from) }, (_, i) => from + i);
      const finite = await dataset.finite(some);
      found.push(...some.filter((_, i) => finite[i] === 0));
    }
  } finally {
    dataset.close();
  }
  return found;
}
