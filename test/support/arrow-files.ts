/**
 * Arrow files for tests, written by apache-arrow: every layout that the reader takes, and some that it
 * refuses.
 */
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  CompressionType,
  compressionRegistry,
  type Data,
  type DataType,
  Field,
  FixedSizeList,
  Float16,
  Float32,
  Float64,
  Int32,
  LargeList,
  List,
  makeData,
  RecordBatch,
  RecordBatchFileWriter,
  RecordBatchStreamWriter,
  Schema,
  Struct,
  Utf8,
  vectorFromArray,
} from 'apache-arrow';
import type { DataConfig } from '../../src/data/dataset.js';
import type { NumericColumn } from '../../src/formats/arrow/columns.js';
import { toFloat16Bits } from '../../src/formats/float16.js';
import { convertToFloat32 } from '../../src/formats/safetensors/dtype.js';
import type { ColumnSpec, DatasetSpec } from '../../src/native/contract.js';
import { temporaryFolder } from './folders.js';

export const FIXTURES = fileURLToPath(new URL('../fixtures/huggingface/', import.meta.url));

/** A copy of a fixture that may be damaged. */
export function copyFixture(name: 'fixed' | 'nested'): string {
  const dir = join(temporaryFolder(), name);
  cpSync(join(FIXTURES, name), dir, { recursive: true });
  return dir;
}

const caption = {
  clip_l: 'clip_l',
  clip_l_pooled: 'clip_l_pooled',
  clip_g: 'clip_g',
  clip_g_pooled: 'clip_g_pooled',
  t5: 't5',
  context: null,
  pooled: null,
};

/** The configuration of the fixtures' columns. */
export function fixtureConfig(path: string, flat: boolean): DataConfig {
  return {
    path,
    columns: { id: 'id', latent: 'latent', latent_logvar: null, original: caption, synthetic: null },
    latent_shape: flat ? [16, 8, 8] : null,
    text_shape: flat ? { clip_l: [8, 48], clip_g: [8, 80], t5: [8, 160] } : null,
  };
}

export type Element = 'float16' | 'float32' | 'float64' | 'int32';
export type Nesting = 'fixed' | 'list' | 'large';

export interface ColumnOptions {
  element: Element;
  /** One list level for each dimension of a row, outermost first. */
  levels: { kind: Nesting; size: number }[];
  /** Elements that precede the first row in the child arrays of lists, as in slices. */
  skipped: number;
}

/** Value of element i of row r, exact in float16. */
export const sampleValue = (row: number, i: number): number => ((row * 31 + i * 7) % 1000) / 8;

/** A column of `rows` rows beginning with row `first`. */
export function numericData(options: ColumnOptions, rows: number, first = 0): Data<DataType> {
  const width = options.levels.reduce((product, { size }) => product * size, 1);
  const prefix = options.levels[0]?.kind === 'fixed' ? 0 : options.skipped;
  const count = rows * width + prefix;
  const value = (i: number) =>
    i < prefix ? -1 : sampleValue(first + Math.floor((i - prefix) / width), (i - prefix) % width);
  let data = leaf(options.element, count, value);
  let length = count;
  for (const [depth, { kind, size }] of [...options.levels.entries()].reverse()) {
    const lists = depth === 0 ? rows : Math.floor(length / size);
    // Only the outermost level skips: the levels below hold whole lists of what was skipped.
    data = wrap(kind, data, lists, size, depth === 0 ? prefix / (width / size) : 0);
    length = lists;
  }
  return data;
}

function leaf(element: Element, length: number, value: (i: number) => number): Data<DataType> {
  const indices = Array.from({ length }, (_, i) => value(i));
  const common = { length, nullCount: 0 };
  if (element === 'float16')
    return makeData({ type: new Float16(), ...common, data: Uint16Array.from(indices, toFloat16Bits) });
  if (element === 'float32')
    return makeData({ type: new Float32(), ...common, data: Float32Array.from(indices) });
  if (element === 'float64')
    return makeData({ type: new Float64(), ...common, data: Float64Array.from(indices) });
  return makeData({ type: new Int32(), ...common, data: Int32Array.from(indices) });
}

function wrap(
  kind: Nesting,
  child: Data<DataType>,
  length: number,
  size: number,
  start: number,
): Data<DataType> {
  const item = new Field('item', child.type, true);
  if (kind === 'fixed') {
    return makeData({ type: new FixedSizeList(size, item), length, nullCount: 0, child });
  }
  const offsets = Array.from({ length: length + 1 }, (_, i) => start + i * size);
  if (kind === 'list') {
    return makeData({
      type: new List(item),
      length,
      nullCount: 0,
      valueOffsets: Int32Array.from(offsets),
      child,
    });
  }
  return makeData({
    type: new LargeList(item),
    length,
    nullCount: 0,
    valueOffsets: BigInt64Array.from(offsets, BigInt),
    child,
  });
}

export function stringData(values: string[]): Data<DataType> {
  return vectorFromArray(values, new Utf8()).data[0]!;
}

export interface WriteOptions {
  format: 'file' | 'stream';
  /** Writes bodies as zstd frames (of stored blocks). */
  compressed?: boolean;
}

/** A zstd frame of one stored block; for less than 128 KiB. */
function zstdStored(bytes: Uint8Array): Uint8Array {
  const header = Buffer.alloc(12);
  header.writeUInt32LE(0xfd2fb528, 0);
  header.writeUInt8(0xa0, 4); // single segment, content size in four bytes
  header.writeUInt32LE(bytes.length, 5);
  header.writeUIntLE(bytes.length * 8 + 1, 9, 3); // last block, stored
  return Buffer.concat([header, bytes]);
}

/** Bytes of an Arrow file of batches, each a record of columns of equal length. */
export function arrowBytes(
  batches: Record<string, Data<DataType>>[],
  { format, compressed }: WriteOptions,
): Uint8Array {
  const fields = Object.entries(batches[0]!).map(([name, data]) => new Field(name, data.type, true));
  const schema = new Schema(fields);
  if (compressed) compressionRegistry.set(CompressionType.ZSTD, { encode: zstdStored });
  const options = compressed ? { compressionType: CompressionType.ZSTD } : {};
  const writer =
    format === 'file' ? new RecordBatchFileWriter(options) : new RecordBatchStreamWriter(options);
  for (const batch of batches) {
    const children = Object.values(batch);
    const struct = makeData({
      type: new Struct(fields),
      length: children[0]!.length,
      nullCount: 0,
      children,
    });
    writer.write(new RecordBatch(schema, struct));
  }
  writer.finish();
  return writer.toUint8Array(true);
}

/** A Hugging Face folder of the given files. */
export function huggingFaceFolder(
  files: Uint8Array[],
  features: Record<string, unknown> | null = null,
): string {
  const dir = join(temporaryFolder(), 'set');
  mkdirSync(dir);
  const names = files.map((_, i) => `data-${i}.arrow`);
  files.forEach((bytes, i) => {
    writeFileSync(join(dir, names[i]!), bytes);
  });
  writeFileSync(
    join(dir, 'state.json'),
    JSON.stringify({ _data_files: names.map((filename) => ({ filename })) }),
  );
  if (features) writeFileSync(join(dir, 'dataset_info.json'), JSON.stringify({ features }));
  return dir;
}

/** The native spec of one file's columns, as they are stored. */
export function specOf(path: string, bytes: number, rows: number, columns: ColumnSpec[]): DatasetSpec {
  return { files: [{ path, bytes }], storedRows: rows, order: null, columns, latentShift: 0, latentScale: 1 };
}

/** A column of one file, as its native spec. */
export function columnSpec(
  role: string,
  width: number,
  { type, rowBytes, segments }: NumericColumn,
): ColumnSpec {
  const numbers = segments.flatMap(({ firstRow, rows, byteOffset }) => [0, firstRow, rows, byteOffset]);
  return { role, type, width, rowBytes, segments: Float64Array.from(numbers) };
}

/** Value of binary16 bits. */
export function fromFloat16Bits(bits: number): number {
  const value = new Float32Array(1);
  convertToFloat32('F16', new Uint8Array(Uint16Array.of(bits).buffer), value);
  return value[0]!;
}
