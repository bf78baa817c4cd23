/** Identity of data: SHA-256 of files and of what a data set consists of. */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { OrchestratorError } from '../errors.js';
import { canonicalJson } from '../files/json.js';
import type { DataSource } from './source.js';

const CHUNK = 4 * 2 ** 20;

/** SHA-256 of a file, hexadecimal. `progress` gets the bytes of each chunk. Throws ERR_FILE_OPEN. */
export async function hashFile(
  path: string,
  progress: ((bytes: number) => void) | null = null,
): Promise<string> {
  return hashPieces(path, null, progress);
}

/** Foreign files up to this size count wholly in the data set's hash; of larger ones, pieces do. */
const WHOLE_FILE_BYTES = 256 * 2 ** 20;
const PIECES = 64;

/**
 * What tells one data set from another, hexadecimal: of our own, the manifest's schema and hashes; of foreign folders,
 * names of the columns in use, sizes and contents of the files. Of foreign files above 256 MiB, 64 evenly spaced
 * pieces of 4 MiB stand for the whole: this is for refusing the wrong data set, not for finding damage.
 */
export async function datasetHash(source: DataSource, columns: unknown): Promise<string> {
  const { manifest } = source;
  const content: object[] = [];
  if (manifest) for (const { rows, sha256 } of manifest.shards) content.push({ rows, sha256 });
  else
    for (const { path, bytes, rows } of source.files)
      content.push({ bytes, rows, sha256: await hashForeign(path, bytes) });
  const identity = { format: source.format, columns: manifest?.columns ?? columns, content };
  return createHash('sha256').update(canonicalJson(identity)).digest('hex');
}

function hashForeign(path: string, bytes: number): Promise<string> {
  if (bytes <= WHOLE_FILE_BYTES) return hashPieces(path, null, null);
  const last = bytes - CHUNK;
  return hashPieces(
    path,
    Array.from({ length: PIECES }, (_, i) => Math.floor((last * i) / (PIECES - 1))),
    null,
  );
}

/** Hash of the pieces of CHUNK bytes at `positions`, or of the whole file. */
async function hashPieces(
  path: string,
  positions: number[] | null,
  progress: ((bytes: number) => void) | null,
): Promise<string> {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(CHUNK);
  try {
    const handle = await open(path, 'r');
    try {
      for (let piece = 0, position = 0; ; piece++) {
        if (positions) {
          if (piece === positions.length) break;
          position = positions[piece]!;
        }
        const { bytesRead } = await handle.read(buffer, 0, CHUNK, position);
        if (bytesRead === 0) break;
        hash.update(buffer.subarray(0, bytesRead));
        progress?.(bytesRead);
        position += bytesRead;
      }
    } finally {
      await handle.close();
    }
  } catch (cause) {
    throw new OrchestratorError('ERR_FILE_OPEN', `Cannot read ${path}: ${(cause as Error).message}`, {
      cause,
    });
  }
  return hash.digest('hex');
}
