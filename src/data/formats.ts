/** The formats of data sets. */
import { existsSync } from 'node:fs';
import { basename, isAbsolute, join, resolve } from 'node:path';
import { OrchestratorError } from '../errors.js';
import { withHome } from '../files/home.js';
import { shellText } from '../text/shell.js';
import { huggingFace } from './huggingface.js';
import { parquetFiles } from './parquet-files.js';
import { shards } from './shards.js';
import type { DataFormat, DataSource } from './source.js';

/** The first whose marker is in a folder reads it, unless another with a marker there recognises it, too. */
const FORMATS: readonly DataFormat[] = [shards, huggingFace];

function shapesCommand(path: string): string {
  return shellText(['orchestrator', 'dataset', 'shapes', '--out', path, '--count', '16000']);
}

/** Parquet is compressed and has its rows in pages, so it cannot be mapped. */
function parquetHint(path: string): string | null {
  if (parquetFiles(path).length === 0) return null;
  const command = shellText([
    'orchestrator',
    'dataset',
    'convert',
    path,
    '--out',
    `${path.replace(/\.parquet$/, '')}-shards`,
  ]);
  return `These are Parquet files, which must be converted once: ${command}`;
}

/** Reads the metadata of a data set's folder, without checking the contents. */
export function openSource(given: string): DataSource {
  const path = withHome(given);
  if (!existsSync(path)) {
    throw new OrchestratorError(
      'ERR_FILE_OPEN',
      `There is no data set at ${resolve(path)}${isAbsolute(path) ? '' : ` (${given}, relative to the working directory)`}`,
      basename(path).startsWith('shapes') ? `To make one of the shapes world: ${shapesCommand(path)}` : null,
    );
  }
  const candidates = FORMATS.filter(({ marker }) => existsSync(join(path, marker)));
  const format = candidates.find(({ recognises }) => recognises?.(path) ?? true) ?? candidates[0];
  if (!format) {
    const markers = FORMATS.map(({ marker }) => marker).join(' nor ');
    const hints = [...FORMATS.map(({ hint }) => hint?.(path) ?? null), parquetHint(path)];
    throw new OrchestratorError(
      'ERR_DATA_FORMAT',
      `${path} is not a data set: it has neither ${markers}`,
      hints.find((hint) => hint !== null) ??
        'Expected a folder that `orchestrator dataset` or Hugging Face save_to_disk wrote',
    );
  }
  const source = format.open(path);
  if (source.rows === 0) throw new OrchestratorError('ERR_DATA_EMPTY', `The data set ${path} has no rows`);
  return source;
}
