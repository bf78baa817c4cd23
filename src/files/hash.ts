/** SHA-256 of values and of files, in hexadecimal. */
import { createHash } from 'node:crypto';
import { openForReading, type Piece, readEach } from './io.js';
import { canonicalJson } from './json.js';

/** SHA-256 of the canonical JSON, in hex: equal values give equal hashes in every process. */
export function canonicalHash(value: unknown): string {
  return createHash('sha256').update(canonicalJson(value)).digest('hex');
}

/** Bytes hashed, converted or written at once: about half a millisecond, so the event loop stays free. */
export const CHUNK_BYTES = 1 << 20;

/** A file in chunks, which take turns in two pieces of memory. */
function* inChunks(size: number): Generator<Piece> {
  const turns = [0, 1].map(() => new Uint8Array(Math.min(CHUNK_BYTES, size)));
  for (let at = 0, turn = 0; at < size; at += CHUNK_BYTES, turn ^= 1) {
    yield { position: at, into: turns[turn]!.subarray(0, Math.min(CHUNK_BYTES, size - at)) };
  }
}

/** What identifies the contents of a file. */
export interface FileRecord {
  bytes: number;
  sha256: string;
}

/** SHA-256 and size of a file, read in chunks. `progress` is called with the size of each chunk. */
export async function hashFile(
  path: string,
  progress: ((bytes: number) => void) | null = null,
): Promise<FileRecord> {
  const { handle, size } = await openForReading(path);
  try {
    const hash = createHash('sha256');
    await readEach(handle, inChunks(size), path, (chunk) => {
      hash.update(chunk);
      progress?.(chunk.length);
    });
    return { bytes: size, sha256: hash.digest('hex') };
  } finally {
    await handle.close();
  }
}
