/**
 * Compares a data set's files with their hashes: those of the manifest, down to the damaged column and rows,
 * or those recorded for a foreign folder.
 */
import { crc32 } from 'node:zlib';
import { OrchestratorError } from '../errors.js';
import { hashFile } from '../files/hash.js';
import { numericColumn } from '../formats/arrow/columns.js';
import { type ArrowFile, FileReader, readArrow } from '../formats/arrow/file.js';
import { CHECKSUM_ROWS, type Manifest } from './manifest.js';
import type { DataSource } from './source.js';
import { readSums, SUMS_FILE } from './sums.js';

/**
 * Data sets up to this size are verified when they are opened, which takes about two seconds; larger ones by
 * `orchestrator dataset verify`.
 */
const VERIFY_AT_OPENING_BYTES = 2 * 2 ** 30;

type Shard = Manifest['shards'][number];

/** Verifies a small data set that has recorded hashes. */
export async function verifyIfSmall(source: DataSource): Promise<void> {
  const bytes = source.files.reduce((sum, file) => sum + file.bytes, 0);
  if (bytes <= VERIFY_AT_OPENING_BYTES) await verifyFiles(source, null);
}

/**
 * Compares every file with its recorded SHA-256; returns false if none are recorded. `progress` receives the
 * number of bytes read.
 *
 * @throws OrchestratorError ERR_DATA_HASH: names the file and, from the manifest's block checksums, the
 *   column and the rows.
 */
export async function verifyFiles(
  source: DataSource,
  progress: ((bytes: number) => void) | null,
): Promise<boolean> {
  const { manifest } = source;
  if (!manifest) return verifySums(source, progress);
  let firstRow = 0;
  for (const [i, shard] of manifest.shards.entries()) {
    const { path } = source.files[i]!;
    await compare(
      path,
      shard.sha256,
      'the manifest',
      progress,
      () => `: ${placeOfDamage(path, shard, manifest, firstRow)}`,
    );
    firstRow += shard.rows;
  }
  return true;
}

async function verifySums(source: DataSource, progress: ((bytes: number) => void) | null): Promise<boolean> {
  const sums = readSums(source);
  for (const [path, sha256] of sums ?? [])
    await compare(path, sha256, SUMS_FILE, progress, () => ' or changed');
  return sums !== null;
}

async function compare(
  path: string,
  expected: string,
  where: string,
  progress: ((bytes: number) => void) | null,
  place: () => string,
): Promise<void> {
  const { sha256 } = await hashFile(path, progress);
  if (sha256 === expected) return;
  throw new OrchestratorError(
    'ERR_DATA_HASH',
    `${path} is damaged${place()}. Its SHA-256 is ${sha256}; ${where} says ${expected}.`,
    'Restore the file, or create the data set again',
  );
}

/** Locates the damage: "column "latent" differs first within rows 128 to 191", or what else can be said. */
function placeOfDamage(path: string, shard: Shard, manifest: Manifest, firstRow: number): string {
  let file: ArrowFile;
  try {
    file = readArrow(path);
  } catch (error) {
    return `its Arrow metadata cannot be read (${(error as Error).message})`;
  }
  const places: string[] = [];
  for (const { name, type } of manifest.columns) {
    const expected = shard.crc32[name];
    if (!expected || (type !== 'float16' && type !== 'float32')) continue;
    let found: { block: number } | null;
    try {
      found = firstDamagedBlock(file, name, expected);
    } catch (error) {
      places.push(`column "${name}" cannot be read (${(error as Error).message})`);
      continue;
    }
    if (!found) continue;
    const first = found.block * CHECKSUM_ROWS;
    const last = Math.min(first + CHECKSUM_ROWS, shard.rows) - 1;
    places.push(`column "${name}" differs first within rows ${firstRow + first} to ${firstRow + last}`);
  }
  if (places.length === 0) return 'the difference is outside the numeric columns, in captions or metadata';
  return places.slice(0, 3).join('; ') + (places.length > 3 ? `; and ${places.length - 3} more columns` : '');
}

function firstDamagedBlock(file: ArrowFile, name: string, expected: number[]): { block: number } | null {
  // Our own shards have fixed-size lists in one batch, so list offsets are never read.
  const column = numericColumn(file, name, () => {
    throw new OrchestratorError('ERR_DATA_TYPE', `${file.path}, column "${name}": expected fixed-size lists`);
  });
  const segment = column.segments[0];
  if (column.segments.length !== 1 || !segment) {
    throw new OrchestratorError('ERR_DATA_FORMAT', `${file.path}: expected one record batch`);
  }
  const rowBytes = column.shape.reduce((a, b) => a * b, column.type === 'float16' ? 2 : 4);
  const reader = new FileReader(file.path);
  try {
    for (const [block, sum] of expected.entries()) {
      const rows = Math.min(CHECKSUM_ROWS, segment.rows - block * CHECKSUM_ROWS);
      const position = segment.byteOffset + block * CHECKSUM_ROWS * rowBytes;
      if (crc32(reader.read(position, rows * rowBytes, `rows of "${name}"`)) !== sum) return { block };
    }
  } finally {
    reader.close();
  }
  return null;
}
