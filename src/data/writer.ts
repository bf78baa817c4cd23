/**
 * Writes data sets in the project's own format: Arrow IPC files with fixed-size lists, and finally the
 * manifest, so that a folder with a manifest is complete.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { crc32 } from 'node:zlib';
import {
  type Data,
  type DataType,
  Field,
  FixedSizeBinary,
  FixedSizeList,
  type Float,
  Float16,
  Float32,
  Float64,
  Int64,
  makeData,
  RecordBatch,
  RecordBatchFileWriter,
  Schema,
  Struct,
  Uint16,
  Utf8,
  vectorFromArray,
} from 'apache-arrow';
import { OrchestratorError } from '../errors.js';
import { createFolder, writeDurably } from '../files/io.js';
import { processExists } from '../files/processes.js';
import { toFloat16Bits } from '../formats/float16.js';
import { product } from './column.js';
import { CHECKSUM_ROWS, MANIFEST_FILE, type Manifest, type ManifestColumn } from './manifest.js';

/** Description of a data set, without its rows. */
export type ShardSchema = Pick<Manifest, 'columns' | 'encoders' | 'latents' | 'generator'>;

/** A row: for each column a Float32Array (float16, float32), a string (utf8) or a bigint (int64). */
export type Row = Record<string, Float32Array | string | bigint>;

/** Rows between two reports of progress. */
const PROGRESS_ROWS = 64;

/** The values of one column: numbers in their final form, or one label a row. */
export interface ColumnBuffer {
  column: ManifestColumn;
  /** Elements of a row. */
  width: number;
  values: Uint16Array | Float32Array | Float64Array | Uint8Array | (string | bigint)[];
}

/** Collects the rows of one shard by column. */
class ShardBuffer {
  rows = 0;
  readonly #capacity: number;
  readonly #buffers: ColumnBuffer[];

  constructor(columns: readonly ManifestColumn[], capacity: number) {
    this.#capacity = capacity;
    this.#buffers = columns.map((column) => {
      const width = product(column.shape);
      if (column.type === 'float16') return { column, width, values: new Uint16Array(capacity * width) };
      if (column.type === 'float32') return { column, width, values: new Float32Array(capacity * width) };
      return { column, width, values: [] };
    });
  }

  get full(): boolean {
    return this.rows === this.#capacity;
  }

  add(row: Row, rowNumber: number): void {
    for (const { column, width, values } of this.#buffers) {
      const value = row[column.name];
      if (Array.isArray(values) && typeof value === (column.type === 'utf8' ? 'string' : 'bigint')) {
        values.push(value as string | bigint);
      } else if (!Array.isArray(values) && value instanceof Float32Array && value.length === width) {
        values.set(values instanceof Uint16Array ? value.map(toFloat16Bits) : value, this.rows * width);
      } else {
        throw new OrchestratorError(
          'ERR_DATA_SHAPE',
          `Row ${rowNumber}, column "${column.name}": expected ${describe(column)}, received ${received(value)}`,
        );
      }
    }
    this.rows += 1;
  }

  /** CRC-32 of each CHECKSUM_ROWS rows of each column of numbers. */
  checksums(): Record<string, number[]> {
    return checksums(this.#buffers, this.rows);
  }

  /** Empties the buffer, and returns its rows as the bytes of an Arrow IPC file. */
  takeFile(): Uint8Array {
    const bytes = shardBytes(this.#buffers, this.rows);
    this.rows = 0;
    for (const { values } of this.#buffers) if (Array.isArray(values)) values.length = 0;
    return bytes;
  }
}

/** CRC-32 of each CHECKSUM_ROWS rows of each column of numbers. */
export function checksums(buffers: readonly ColumnBuffer[], rows: number): Record<string, number[]> {
  const sums: Record<string, number[]> = {};
  for (const { column, width, values } of buffers) {
    if (Array.isArray(values)) continue;
    const list: number[] = [];
    for (let row = 0; row < rows; row += CHECKSUM_ROWS) {
      const end = Math.min(row + CHECKSUM_ROWS, rows);
      const block = values.subarray(row * width, end * width);
      list.push(crc32(new Uint8Array(block.buffer, block.byteOffset, block.byteLength)));
    }
    sums[column.name] = list;
  }
  return sums;
}

/** The first rows of the buffers as the bytes of an Arrow IPC file. */
export function shardBytes(buffers: readonly ColumnBuffer[], rows: number): Uint8Array {
  const children = buffers.map((buffer) => dataOf(buffer, rows));
  const fields = buffers.map(({ column: { name, shape } }, i) => {
    const metadata = shape.length ? new Map([['shape', JSON.stringify(shape)]]) : null;
    return new Field(name, children[i]!.type, false, metadata);
  });
  const struct = makeData({ type: new Struct(fields), length: rows, nullCount: 0, children });
  const writer = new RecordBatchFileWriter();
  writer.write(new RecordBatch(new Schema(fields), struct));
  writer.finish();
  return writer.toUint8Array(true);
}

function dataOf({ column, width, values }: ColumnBuffer, rows: number): Data<DataType> {
  if (Array.isArray(values)) {
    return vectorFromArray(values, column.type === 'utf8' ? new Utf8() : new Int64()).data[0]!;
  }
  const data = values.subarray(0, rows * width);
  if (data instanceof Uint8Array) {
    return makeData({ type: new FixedSizeBinary(width), length: rows, nullCount: 0, data });
  }
  const item: Float = ITEM_TYPES[column.type as keyof typeof ITEM_TYPES]();
  const child = makeData({ type: item, length: rows * width, nullCount: 0, data });
  const type = new FixedSizeList(width, new Field('item', item, false));
  return makeData({ type, length: rows, nullCount: 0, child });
}

/** Arrow's type of the numbers of a column. */
const ITEM_TYPES = {
  float16: () => new Float16(),
  float32: () => new Float32(),
  float64: () => new Float64(),
  // An integer of 16 bits is written like a float of 16.
  uint16: () => new Uint16() as DataType as Float,
};

/** CRC-32 of each CHECKSUM_ROWS rows of each float column, as in the manifest of a shard with these rows. */
export function checksumsOf(columns: ManifestColumn[], rows: readonly Row[]): Record<string, number[]> {
  const buffer = new ShardBuffer(columns, rows.length);
  rows.forEach((row, i) => {
    buffer.add(row, i);
  });
  return buffer.checksums();
}

function describe({ type, shape }: ManifestColumn): string {
  if (type === 'utf8') return 'a string';
  if (type === 'int64') return 'a bigint';
  return `a Float32Array of ${shape.join(' x ')} = ${product(shape)}`;
}

function received(value: unknown): string {
  if (value instanceof Float32Array) return `a Float32Array of ${value.length}`;
  return value === undefined ? 'nothing' : typeof value;
}

/**
 * Writes a data set: shards of at most `rowsPerShard` rows and, last, the manifest. The folder gets its name
 * only when it is complete and on disk; on an error nothing remains. `progress` is called regularly with the
 * number of rows written.
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
  const prefix = join(dirname(target), `.${basename(target)}.partial-`);
  const partial = `${prefix}${process.pid}`;
  return createFolder(dir, partial, async () => {
    await removeLeftovers(prefix);
    return writeInto(partial, schema, rows, rowsPerShard, progress);
  });
}

/** Removes the folders with this prefix and a process id that killed processes left behind. */
async function removeLeftovers(prefix: string): Promise<void> {
  for (const name of readdirSync(dirname(prefix))) {
    const path = join(dirname(prefix), name);
    const pid = path.startsWith(prefix) ? Number(path.slice(prefix.length)) : 0;
    if (!Number.isSafeInteger(pid) || pid <= 0 || processExists(pid)) continue;
    await rm(path, { recursive: true, force: true });
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
    await writeDurably(join(dir, file), bytes);
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
  await writeDurably(join(dir, MANIFEST_FILE), `${JSON.stringify(manifest, null, 2)}\n`);
  return manifest;
}
