/**
 * A data set for training: the roles of its columns, their shapes, the location of its rows, and its
 * identity. Values are mapped and gathered natively; none of them passes through this file.
 */
import { totalBytes } from '../memory/parts.js';
import type { DatasetSpec } from '../native/contract.js';
import { datasetSpec } from './column.js';
import { firstIdentity } from './first-identity.js';
import { openSource } from './formats.js';
import { type CacheUse, identityOf } from './identity.js';
import { type DataConfig, roleColumns, textSpec } from './roles.js';
import { verifyFiles } from './verify.js';

export type { DataConfig } from './roles.js';

/** A data set that was opened for training. */
export type OpenDataset = Awaited<ReturnType<typeof openDataset>>;

/**
 * Data sets up to this size are verified when they are opened, which takes about two seconds; larger ones by
 * `orchestrator dataset verify`.
 */
const VERIFY_AT_OPENING_BYTES = 2 * 2 ** 30;

interface Opening {
  /** Whether the files of a small data set are compared with their recorded hashes. */
  verify?: boolean;
  /** The version of the sample plan, which a run keeps from its start: version 1 hashed whole files. */
  planVersion?: number;
  cache?: CacheUse;
  /** Called with bytes read, and all that are to be read, for the identity. */
  progress?: ((done: number, total: number) => void) | null;
}

/** Opens a data set of any format. ERR_FILE_* and ERR_DATA_* name file, column and row. */
export async function openDataset(
  config: DataConfig,
  { verify = true, planVersion = 2, cache = 'use', progress = null }: Opening = {},
) {
  const source = openSource(config.path);
  const columns = source.roles(config.columns);
  const roles = roleColumns(source, columns, config);
  const text = textSpec(source, roles, config);
  if (verify && totalBytes(source.files) <= VERIFY_AT_OPENING_BYTES) await verifyFiles(source, null);
  const spec: DatasetSpec = {
    ...datasetSpec(
      source,
      roles.map(({ table }) => table),
    ),
    latentShift: config.latent_shift ?? 0,
    latentScale: config.latent_scale ?? 1,
  };
  return {
    spec,
    /** Identity of the data, 64 hexadecimal digits; equal for equal data. */
    hash:
      planVersion === 1
        ? await firstIdentity(source, columns, roles)
        : await identityOf(source, roles, cache, progress),
    planVersion,
    rows: source.rows,
    /** [channels, height, width]. */
    latent: roles.find(({ name }) => name === 'latent')!.shape as [number, number, number],
    text,
    encoders: source.encoders,
    hasSynthetic: columns.synthetic !== null,
    /** Ids of rows for reports: values of the id column, or row numbers. */
    ids: (rows: number[]) => rows.map((row) => (columns.id ? source.label(columns.id, row) : String(row))),
  };
}
