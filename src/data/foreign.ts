/**
 * What a data set has that another program wrote: the configuration gives the roles of its columns, and the
 * hashes to verify it with are those that `dataset verify --record` wrote.
 */
import { createHash } from 'node:crypto';
import { OrchestratorError } from '../errors.js';
import { hashFile } from '../files/hash.js';
import { openForReading, readFully } from '../files/io.js';
import type { DataFile, DataSource } from './source.js';
import { readSums } from './sums.js';

/** Up to this size, the first identity covers a whole file; of a larger one, evenly spaced pieces. */
const WHOLE_FILE_BYTES = 256 * 2 ** 20;
const PIECES = 64;
const PIECE_BYTES = 4 * 2 ** 20;

type Foreign = 'roles' | 'firstIdentity' | 'hashes';

/** Refuses a folder of which nothing says what its columns are for. */
export function needColumns(path: string, names: readonly string[]): never {
  throw new OrchestratorError(
    'ERR_DATA_COLUMN',
    `The columns of ${path} have names of another program: data.columns must give the role of each column`,
    `It has the columns ${names.join(', ')}. \`orchestrator config new --data ${path}\` writes a configuration with those that it can tell; commands take it with --config`,
  );
}

/** Completes the source of a foreign folder. */
export function foreignSource(source: Omit<DataSource, Foreign>): DataSource {
  return {
    ...source,
    roles(configured) {
      return (
        configured ??
        needColumns(
          source.path,
          source.columns.map(({ name }) => name),
        )
      );
    },
    async firstIdentity() {
      const content: object[] = [];
      for (const file of source.files) content.push(await contentOf(file));
      return { content };
    },
    hashes: () => readSums(source),
  };
}

/** Tells one file from another; a hash of pieces is not for detecting damage. */
async function contentOf({ path, bytes, rows }: DataFile): Promise<object> {
  if (bytes <= WHOLE_FILE_BYTES) return { bytes, rows, sha256: (await hashFile(path)).sha256 };
  const hash = createHash('sha256');
  const piece = new Uint8Array(PIECE_BYTES);
  const { handle } = await openForReading(path);
  try {
    for (let i = 0; i < PIECES; i++) {
      await readFully(handle, piece, Math.floor(((bytes - PIECE_BYTES) * i) / (PIECES - 1)), path);
      hash.update(piece);
    }
  } finally {
    await handle.close();
  }
  return { bytes, rows, sha256: hash.digest('hex') };
}
