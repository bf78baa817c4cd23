/**
 * The identity of a data set: the number of its rows, its roles with shapes and element types, and a digest of
 * the values of up to 4,096 rows. It does not depend on files, shards or names of columns. It does not see
 * changes in other rows of a larger set; recorded hashes of the files do.
 */
import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import { type FileHandle, mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { OrchestratorError } from '../errors.js';
import { canonicalHash } from '../files/hash.js';
import { cacheFolder } from '../files/home.js';
import { openForReading, readFully, replaceFile, writeDurably } from '../files/io.js';
import { readJson } from '../files/json.js';
import type { ColumnSpec } from '../native/contract.js';
import { drawUniforms, STREAM } from '../random/philox.js';
import { locate, valueBytes } from './column.js';
import type { RoleColumn } from './roles.js';
import type { DataSource } from './source.js';

/** `use` = read and write it; `renew` = compute again, and write it; `none` = neither. */
export type CacheUse = 'use' | 'renew' | 'none';

type Progress = ((done: number, total: number) => void) | null;

/** Rows that are digested. The plans of runs depend on the rule, so it never changes. */
const DIGEST_ROWS = 4096;
/** Adjacent rows are read together, up to this size. */
const READ_BYTES = 2 ** 20;
/** Files that are open at once. */
const OPEN_FILES = 64;

/**
 * The identity, in 64 hexadecimal digits.
 *
 * @param rows that of a set of the first rows alone.
 * @param progress called with bytes read, and all there are.
 */
export async function identityOf(
  source: DataSource,
  roles: readonly RoleColumn[],
  rows: number,
  cache: CacheUse,
  progress: Progress,
): Promise<string> {
  const described = {
    rows,
    roles: roles.map(({ name, shape, table }) => ({ name, shape, type: table.spec.type })),
  };
  const digest = () => digestOf(source, roles, rows, progress);
  const key = () => cacheKey(source, roles, rows);
  return canonicalHash({ ...described, digest: await remembered(key, cache, digest) });
}

/** One row of each of 4,096 equal ranges, ascending; all rows where there are no more. */
export function digestedRows(rows: number): Float64Array {
  const count = Math.min(rows, DIGEST_ROWS);
  const key = { seed: 0n, stream: STREAM.identity, step: 0 };
  return Float64Array.from({ length: count }, (_, i) => {
    if (count === rows) return i;
    const [u] = drawUniforms({ ...key, sampleId: i });
    return Math.floor(((i + u!) * rows) / count);
  });
}

interface FileRange {
  file: number;
  offset: number;
  bytes: number;
}

/** SHA-256 of the rows' values, role by role. */
async function digestOf(
  source: DataSource,
  roles: readonly RoleColumn[],
  count: number,
  progress: Progress,
): Promise<string> {
  const rows = digestedRows(count);
  const hash = createHash('sha256');
  const files = new OpenFiles(source);
  const total = roles.reduce((sum, { table }) => sum + rows.length * valueBytes(table.spec), 0);
  let done = 0;
  try {
    for (const { table } of roles) {
      for (const { file, offset, bytes } of readsOf(source, table.spec, rows)) {
        const values = new Uint8Array(bytes);
        await readFully(await files.handle(file), values, offset, source.files[file]!.path);
        hash.update(values);
        done += bytes;
        progress?.(done, total);
      }
    }
  } finally {
    await files.close();
  }
  return hash.digest('hex');
}

/** The places of rows' values, adjacent ones joined. */
function* readsOf(source: DataSource, spec: ColumnSpec, rows: Float64Array): Generator<FileRange> {
  const bytes = valueBytes(spec);
  let open: FileRange | null = null;
  for (const row of rows) {
    const { file, offset } = locate(spec, source.order === null ? row : source.order[row]!);
    if (
      open !== null &&
      open.file === file &&
      open.offset + open.bytes === offset &&
      open.bytes + bytes <= READ_BYTES
    ) {
      open.bytes += bytes;
      continue;
    }
    if (open !== null) yield open;
    open = { file, offset, bytes };
  }
  if (open !== null) yield open;
}

/** Keeps the files open that were used last. */
class OpenFiles {
  readonly #source: DataSource;
  readonly #handles = new Map<number, FileHandle>();

  constructor(source: DataSource) {
    this.#source = source;
  }

  async handle(file: number): Promise<FileHandle> {
    const known = this.#handles.get(file);
    if (known) return known;
    if (this.#handles.size >= OPEN_FILES) await this.close();
    const { path, bytes } = this.#source.files[file]!;
    const { handle, size } = await openForReading(path);
    this.#handles.set(file, handle);
    if (size === bytes) return handle;
    throw new OrchestratorError('ERR_FILE_TRUNCATED', `${path} had ${bytes} bytes, and has ${size} now`);
  }

  async close(): Promise<void> {
    for (const handle of this.#handles.values()) await handle.close();
    this.#handles.clear();
  }
}

const entrySchema = z.object({ digest: z.string().regex(/^[0-9a-f]{64}$/) });

/**
 * The digest from the cache, if all files have the path, size, modification time and inode that they had when
 * it was computed, and the values lie where they did.
 */
async function remembered(
  key: () => string,
  cache: CacheUse,
  compute: () => Promise<string>,
): Promise<string> {
  if (cache === 'none') return compute();
  const path = join(cacheFolder(), 'data-sets', `${key()}.json`);
  if (cache === 'use') {
    try {
      return readJson(path, entrySchema).digest;
    } catch (error) {
      // Missing, or damaged: it is computed again.
      if (!(error instanceof OrchestratorError)) throw error;
    }
  }
  const digest = await compute();
  try {
    await mkdir(dirname(path), { recursive: true });
    await replaceFile(path, (temporary) => writeDurably(temporary, `${JSON.stringify({ digest })}\n`));
  } catch {
    // A cache that cannot be written only costs time.
  }
  return digest;
}

function cacheKey({ files, order }: DataSource, roles: readonly RoleColumn[], rows: number): string {
  const bytesOf = (values: Float64Array) =>
    new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const places = createHash('sha256');
  if (order !== null) places.update(bytesOf(order));
  for (const { table } of roles) places.update(bytesOf(table.spec.segments));
  return canonicalHash({
    rows,
    files: files.map(({ path }) => {
      const { dev, ino, size, mtimeNs } = statSync(path, { bigint: true });
      return [path, dev, ino, size, mtimeNs].map(String);
    }),
    columns: roles.map(({ name, table }) => {
      const { type, width, rowBytes } = table.spec;
      return [name, type, width, rowBytes];
    }),
    places: places.digest('hex'),
  });
}
