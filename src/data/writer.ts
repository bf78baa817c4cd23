/**
 * Writes data sets in the project's own format: Arrow IPC files with fixed-size lists, and finally the
 * manifest, so that a folder with a manifest is complete.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { crc32 } from 'node:zlib';
import {
  type Data,
  type DataType,
  Field,
  FixedSizeList,
  Float16,
  Float32,
  Int64,
  makeData,
  RecordBatch,
  RecordBatchFileWriter,
  Schema,
  Struct,
  Utf8,
  vectorFromArray,
} from 'apache-arrow';
import { OrchestratorError } from '../errors.js';
import { errnoOf, reasonOf, syncFolder } from '../files/io.js';
import { processExists } from '../files/lock.js';
import { toFloat16Bits } from '../formats/float16.js';
import {
  CHECKSUM_ROWS,
  type Encoders,
  MANIFEST_FILE,
  type Manifest,
  type ManifestColumn,
} from './manifest.js';

/** Description of a data set, without its rows. */
export interface ShardSchema {
  columns: ManifestColumn[];
  encoders: Encoders;
  latents: Record<string, unknown>;
  generator: Record<string, unknown>;
}

/** A row: for each column a Float32Array (float16, float32), a string (utf8) or a bigint (int64). */
export type Row = Record<string, Float32Array | string | bigint>;

/** Rows between two reports of progress. */
const PROGRESS_ROWS = 64;

type Values = Uint16Array | Float32Array | string[] | bigint[];

/** Collects the rows of one shard by column. */
class ShardBuffer {
  rows = 0;
  readonly #columns: ManifestColumn[];
  readonly #capacity: number;
  readonly #values: Values[];

  constructor(columns: ManifestColumn[], capacity: number) {
    this.#columns = columns;
    this.#capacity = capacity;
    this.#values = columns.map((column) => {
      if (column.type === 'float16') return new Uint16Array(capacity * width(column));
      if (column.type === 'float32') return new Float32Array(capacity * width(column));
      return [];
    });
  }

  get full(): boolean {
    return this.rows === this.#capacity;
  }

  add(row: Row, rowNumber: number): void {
    this.#columns.forEach((column, i) => {
      const value = row[column.name];
      const target = this.#values[i]!;
      const wrong = () =>
        new OrchestratorError(
          'ERR_DATA_SHAPE',
          `Row ${rowNumber}, column "${column.name}": expected ${describe(column)}, received ${received(value)}`,
        );
      if (target instanceof Uint16Array || target instanceof Float32Array) {
        const n = width(column);
        if (!(value instanceof Float32Array) || value.length !== n) throw wrong();
        const start = this.rows * n;
        if (target instanceof Float32Array) target.set(value, start);
        else for (let j = 0; j < n; j++) target[start + j] = toFloat16Bits(value[j]!);
      } else if (column.type === 'utf8') {
        if (typeof value !== 'string') throw wrong();
        (target as string[]).push(value);
      } else {
        if (typeof value !== 'bigint') throw wrong();
        (target as bigint[]).push(value);
      }
    });
    this.rows += 1;
  }

  /** CRC-32 of each CHECKSUM_ROWS rows of each float column. */
  checksums(): Record<string, number[]> {
    const sums: Record<string, number[]> = {};
    this.#columns.forEach((column, i) => {
      const values = this.#values[i]!;
      if (Array.isArray(values)) return;
      const rowBytes = width(column) * values.BYTES_PER_ELEMENT;
      const bytes = new Uint8Array(values.buffer, 0, this.rows * rowBytes);
      const list: number[] = [];
      for (let at = 0; at < bytes.length; at += CHECKSUM_ROWS * rowBytes) {
        list.push(crc32(bytes.subarray(at, at + CHECKSUM_ROWS * rowBytes)));
      }
      sums[column.name] = list;
    });
    return sums;
  }

  /** Empties the buffer, and returns its rows as the bytes of an Arrow IPC file. */
  takeFile(): Uint8Array {
    const children = this.#columns.map((column, i) => this.#columnData(column, this.#values[i]!));
    const schema = new Schema(
      this.#columns.map((column, i) => {
        const metadata = column.shape.length ? new Map([['shape', JSON.stringify(column.shape)]]) : null;
        return new Field(column.name, children[i]!.type, false, metadata);
      }),
    );
    const struct = makeData({
      type: new Struct(schema.fields),
      length: this.rows,
      nullCount: 0,
      children,
    });
    const writer = new RecordBatchFileWriter();
    writer.write(new RecordBatch(schema, struct));
    writer.finish();
    this.rows = 0;
    this.#values.forEach((values) => {
      if (Array.isArray(values)) values.length = 0;
    });
    return writer.toUint8Array(true);
  }

  #columnData(column: ManifestColumn, values: Values): Data<DataType> {
    if (column.type === 'utf8') return vectorFromArray(values as string[], new Utf8()).data[0]!;
    if (column.type === 'int64') {
      return makeData({
        type: new Int64(),
        length: this.rows,
        nullCount: 0,
        data: BigInt64Array.from(values as bigint[]),
      });
    }
    const n = width(column);
    const used = this.rows * n;
    const child =
      values instanceof Uint16Array
        ? makeData({ type: new Float16(), length: used, nullCount: 0, data: values.subarray(0, used) })
        : makeData({
            type: new Float32(),
            length: used,
            nullCount: 0,
            data: (values as Float32Array).subarray(0, used),
          });
    const type = new FixedSizeList(n, new Field('item', child.type as DataType, false));
    return makeData({ type, length: this.rows, nullCount: 0, child: child as Data<DataType> });
  }
}

/** CRC-32 of each CHECKSUM_ROWS rows of each float column, as in the manifest of a shard with these rows. */
export function checksumsOf(columns: ManifestColumn[], rows: readonly Row[]): Record<string, number[]> {
  const buffer = new ShardBuffer(columns, rows.length);
  rows.forEach((row, i) => {
    buffer.add(row, i);
  });
  return buffer.checksums();
}

function width(column: ManifestColumn): number {
  return column.shape.reduce((product, n) => product * n, 1);
}

function describe(column: ManifestColumn): string {
  if (column.type === 'utf8') return 'a string';
  if (column.type === 'int64') return 'a bigint';
  return `a Float32Array of ${column.shape.join(' x ')} = ${width(column)}`;
}

function received(value: unknown): string {
  if (value instanceof Float32Array) return `a Float32Array of ${value.length}`;
  return value === undefined ? 'nothing' : typeof value;
}

/**
 * Writes a data set: shards of at most `rowsPerShard` rows and, last, the manifest. The folder gets its name
 * only when it is complete and on disk; on an error nothing remains. `progress` is called regularly with the
 * number of rows written.
 *
 * @throws OrchestratorError ERR_FILE_WRITE (the folder exists and is not empty; disk full; no permission),
 *   ERR_DATA_SHAPE (a row does not match the schema).
 */
export async function writeShards(
  dir: string,
  schema: ShardSchema,
  rows: Iterable<Row> | AsyncIterable<Row>,
  rowsPerShard: number,
  progress: ((rows: number) => void) | null = null,
): Promise<Manifest> {
  const target = resolve(dir);
  if (existsSync(target) && readdirSync(target).length > 0) {
    throw new OrchestratorError(
      'ERR_FILE_WRITE',
      `${dir} exists and is not empty`,
      'Choose another folder, or remove it first',
    );
  }
  const partial = join(dirname(target), `${partialPrefix(target)}${process.pid}`);
  try {
    mkdirSync(dirname(target), { recursive: true });
    await removeLeftovers(target);
    await mkdir(partial);
    const manifest = await writeInto(partial, schema, rows, rowsPerShard, progress);
    await syncFolder(partial);
    await rename(partial, target);
    await syncFolder(dirname(target));
    return manifest;
  } catch (cause) {
    await rm(partial, { recursive: true, force: true });
    if (errnoOf(cause) === null) throw cause;
    throw new OrchestratorError('ERR_FILE_WRITE', `Cannot write ${dir}: ${reasonOf(cause)}`, { cause });
  }
}

function partialPrefix(target: string): string {
  return `.${basename(target)}.partial-`;
}

/** Removes what killed processes left behind that were writing the same folder. */
async function removeLeftovers(target: string): Promise<void> {
  const prefix = partialPrefix(target);
  for (const name of readdirSync(dirname(target))) {
    if (!name.startsWith(prefix)) continue;
    const pid = Number(name.slice(prefix.length));
    if (!Number.isSafeInteger(pid) || pid <= 0 || processExists(pid)) continue;
    await rm(join(dirname(target), name), { recursive: true, force: true });
  }
}

async function writeInto(
  dir: string,
  schema: ShardSchema,
  rows: Iterable<Row> | AsyncIterable<Row>,
  rowsPerShard: number,
  progress: ((rows: number) => void) | null,
): Promise<Manifest> {
  const manifest: Manifest = { format: 'orchestrator-dataset', version: 1, rows: 0, ...schema, shards: [] };
  const buffer = new ShardBuffer(schema.columns, rowsPerShard);
  const flush = async () => {
    const shardRows = buffer.rows;
    const checksums = buffer.checksums();
    const bytes = buffer.takeFile();
    const file = `shard-${String(manifest.shards.length).padStart(5, '0')}.arrow`;
    await writeSynced(join(dir, file), bytes);
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    manifest.shards.push({ file, rows: shardRows, bytes: bytes.length, sha256, crc32: checksums });
    manifest.rows += shardRows;
    progress?.(manifest.rows);
  };
  for await (const row of rows) {
    buffer.add(row, manifest.rows + buffer.rows);
    if (buffer.full) await flush();
    else if (buffer.rows % PROGRESS_ROWS === 0) progress?.(manifest.rows + buffer.rows);
  }
  if (buffer.rows > 0) await flush();
  await writeSynced(join(dir, MANIFEST_FILE), Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`));
  return manifest;
}

async function writeSynced(path: string, bytes: Uint8Array): Promise<void> {
  const handle = await open(path, 'wx');
  try {
    await handle.writeFile(bytes);
    await handle.sync();
  } finally {
    await handle.close();
  }
}
