/** The identity of plan version 1, with which runs that began with it are resumed. */
import { TEXT_COLUMNS } from '../config/schema.js';
import { OrchestratorError } from '../errors.js';
import { canonicalHash } from '../files/hash.js';
import type { RoleColumn } from './roles.js';
import type { CaptionColumns, Columns, DataSource } from './source.js';

/** A hash of the whole files and of the names of the columns. Reads up to 256 MiB of every file. */
export async function firstIdentity(
  source: DataSource,
  columns: Columns,
  roles: readonly RoleColumn[],
): Promise<string> {
  if (source.order !== null) {
    throw new OrchestratorError(
      'ERR_PLAN',
      `The run began with all rows of ${source.path}, of which ${source.rows} are selected by its indices`,
      'Go on with the version of orchestrator that the run began with, or start a new run from its weights (`init`)',
    );
  }
  const { id, latent, original, synthetic } = columns;
  const five = (caption: CaptionColumns) =>
    Object.fromEntries(TEXT_COLUMNS.map((feature) => [feature, caption[feature]]));
  const used = {
    columns: { id, latent, original: five(original), synthetic: synthetic && five(synthetic) },
    shapes: roles.map(({ name, shape }) => [name, shape]),
  };
  return canonicalHash({
    format: source.format.name,
    columns: used,
    ...(await source.firstIdentity()),
  });
}
