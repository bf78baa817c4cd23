/**
 * A data set for training: the roles of its columns, their shapes, the location of its rows, and its
 * identity. Values are mapped and gathered natively; none of them passes through this file.
 */
import { existsSync } from 'node:fs';
import { OrchestratorError } from '../errors.js';
import { withHome } from '../files/home.js';
import { totalBytes } from '../memory/parts.js';
import type { DatasetSpec } from '../native/contract.js';
import { datasetSpec } from './column.js';
import { firstIdentity } from './first-identity.js';
import { openSource } from './formats.js';
import { type CacheUse, identityOf } from './identity.js';
import { checkIds, type DataConfig, roleColumns, textSpec } from './roles.js';
import { verifyFiles } from './verify.js';

export type { DataConfig } from './roles.js';

/** A data set as its metadata describes it; no value was read. */
export type DescribedDataset = ReturnType<typeof describeDataset>;

/** A data set that was opened for training. */
export type OpenDataset = Awaited<ReturnType<typeof openDataset>>;

/**
 * Data sets up to this size are verified when they are opened, which takes about two seconds; larger ones by
 * `orchestrator dataset verify`.
 */
const VERIFY_AT_OPENING_BYTES = 2 * 2 ** 30;

/** How the identity of a data set is found. */
export interface Identification {
  /** The version of the sample plan, which a run keeps from its start: version 1 hashed whole files. */
  planVersion?: number;
  /** The identity of a set of the first rows alone. */
  rows?: number;
  cache?: CacheUse;
  /** Called with bytes read, and all that are to be read. */
  progress?: ((done: number, total: number) => void) | null;
}

/**
 * Reads the metadata of a data set of any format. ERR_FILE_* and ERR_DATA_* name file, column and row.
 *
 * @param placeOf where a key of the configuration was set, for messages: " (run.yaml:3:5)", or "".
 */
export function describeDataset(config: DataConfig, placeOf: (key: string) => string = () => '') {
  const source = openSource(config.path);
  const columns = source.roles(config.columns, placeOf('data.columns'));
  const roles = roleColumns(source, columns, config, placeOf);
  checkIds(source, columns, config, placeOf);
  const text = textSpec(source, roles, config);
  const table = roles.map(({ table }) => table);
  const spec: DatasetSpec = {
    ...datasetSpec(source, table),
    latentShift: config.latent_shift ?? 0,
    latentScale: config.latent_scale ?? 1,
  };
  const bytes = totalBytes(source.files);
  return {
    spec,
    /** Identity of the data, 64 hexadecimal digits; equal for equal data. */
    identify: (identification: Identification = {}): Promise<string> => {
      const { planVersion = 2, rows = source.rows, cache = 'use', progress = null } = identification;
      if (planVersion === 1) return firstIdentity(source, columns, roles);
      return identityOf(source, roles, rows, cache, progress);
    },
    /** Compares the files of a small data set with their recorded hashes. */
    verify: async () => {
      if (bytes <= VERIFY_AT_OPENING_BYTES) await verifyFiles(source, null);
    },
    /** Size of all files. */
    bytes,
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

/** The remedy where a machine lacks the data set of a run: another one made there would not be that of the run. */
const COPY = 'Copy the data set of the run there, or say where that machine has it';

/**
 * Opens what is to be the data set of a run, on a machine that joins it.
 *
 * @param remedy How to say where that machine has it.
 */
export async function openCopy(config: DataConfig, identification: Identification, remedy: string) {
  try {
    return await openDataset(config, identification);
  } catch (error) {
    if (!(error instanceof OrchestratorError) || existsSync(withHome(config.path))) throw error;
    throw new OrchestratorError(error.code, error.message, `${COPY}: ${remedy}`);
  }
}

/** Opens a data set of any format, and finds its identity. */
export async function openDataset(config: DataConfig, identification: Identification = {}) {
  const described = describeDataset(config);
  await described.verify();
  return { ...described, hash: await described.identify(identification) };
}
