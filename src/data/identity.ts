/** The identity of a data set: a SHA-256 of what it consists of. */
import { createHash } from 'node:crypto';
import { canonicalHash, hashFile } from '../files/hash.js';
import { openForReading, readFully } from '../files/io.js';
import type { DataSource } from './source.js';

/**
 * Up to this size, the hash covers a whole foreign file; of a larger file, it covers evenly spaced pieces.
 */
const WHOLE_FILE_BYTES = 256 * 2 ** 20;
const PIECES = 64;
const PIECE_BYTES = 4 * 2 ** 20;

/**
 * Distinguishes one data set from another, in hexadecimal: the manifest's schema and hashes for our own
 * format; names of the columns in use, sizes and contents of the files for foreign folders. Of foreign files
 * above 256 MiB, 64 evenly spaced pieces of 4 MiB are hashed: this is for refusing the wrong data set, not
 * for detecting damage.
 */
export async function datasetHash(source: DataSource, columns: unknown): Promise<string> {
  const { manifest } = source;
  const content: object[] = [];
  if (manifest) for (const { rows, sha256 } of manifest.shards) content.push({ rows, sha256 });
  else
    for (const { path, bytes, rows } of source.files)
      content.push({ bytes, rows, sha256: await hashForeign(path, bytes) });
  const identity = { format: source.format, columns: manifest?.columns ?? columns, content };
  return canonicalHash(identity);
}

async function hashForeign(path: string, bytes: number): Promise<string> {
  if (bytes <= WHOLE_FILE_BYTES) return (await hashFile(path)).sha256;
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
  return hash.digest('hex');
}
