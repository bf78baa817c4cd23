/** Where a column's numbers are in an Arrow file: runs of rows at one distance. */
import { OrchestratorError } from '../../errors.js';
import { FileReader } from '../../files/reader.js';
import { ELEMENT_BYTES, type ElementType } from '../../native/dataset-contract.js';
import { ArrowColumn, type Chunk, fieldPath, type Level } from './chunk.js';
import type { ArrowFile } from './file.js';
import { type NpyHeader, readNpyHeader } from './npy.js';
import { type ArrowField, typeName } from './schema.js';

/** A column of numbers in one file. */
export interface NumericColumn {
  type: ElementType;
  /** Shape of one row, as the file states it: [1024] for a flat list, [16, 8, 8] for Array3D. */
  shape: number[];
  /** Bytes from one row to the next: more than its values have where each row has a header. */
  rowBytes: number;
  segments: { firstRow: number; rows: number; byteOffset: number }[];
}

/** What the types of a file may leave open. */
export interface Reading {
  /** Whether integers of 16 bits, and bytes, are bfloat16. */
  bfloat16?: boolean;
  /** Elements of a row, for bytes without a header; null if nobody states it. */
  elements?: number | null;
}

/** Where the first row of a batch begins, and what every row is. */
interface Run extends Omit<NumericColumn, 'segments'> {
  byteOffset: number;
}

const LISTS = ['list', 'large_list', 'fixed_size_list', 'list_view', 'large_list_view'];
const BYTES = ['binary', 'large_binary', 'fixed_size_binary'];

/**
 * The runs of a column of numbers whose rows have one shape: lists in lists of one length, tensors, or the
 * bytes of arrays, also inside structs. ERR_DATA_* for any other column, for nulls and for compressed batches:
 * messages name file, column and row, and hints the cast that makes the column readable.
 */
export function numericColumn(file: ArrowFile, name: string, reading: Reading = {}): NumericColumn {
  const path = numericPath(file, name, reading.bfloat16 === true);
  const column = new ArrowColumn(file, name, path);
  let first: Run | null = null;
  const segments: NumericColumn['segments'] = [];
  return FileReader.using(file.path, (reader) => {
    for (const batch of file.batches) {
      const chunk = column.chunk(batch);
      const run = runOf(reader, chunk, reading, first?.shape ?? []);
      first ??= run;
      if (run.shape.length !== first.shape.length || run.shape.some((side, i) => side !== first!.shape[i])) {
        const before = `${first.shape.join(' x ')} elements as in the rows before`;
        throw chunk.wrong('ERR_DATA_SHAPE', 0, `expected ${before}, received ${run.shape.join(' x ')}`);
      }
      if (run.type !== first.type || run.rowBytes !== first.rowBytes) {
        const before = `${first.type} in ${first.rowBytes} bytes a row as before`;
        throw chunk.wrong('ERR_DATA_TYPE', 0, `expected ${before}, received ${run.type} in ${run.rowBytes}`);
      }
      segments.push({ firstRow: batch.firstRow, rows: batch.rows, byteOffset: run.byteOffset });
    }
    const { type, shape, rowBytes } = first ?? { type: 'float32' as const, shape: [], rowBytes: 0 };
    return { type, shape, rowBytes, segments };
  });
}

/** The fields from the column to its innermost values, which must be numbers. */
function numericPath(file: ArrowFile, name: string, bfloat16: boolean): ArrowField[] {
  const path = fieldPath(file, name);
  const column = path.at(-1)!;
  const refuse = (hint: string) => {
    throw new OrchestratorError(
      'ERR_DATA_TYPE',
      `${file.path}, column "${name}": expected lists of float16, float32 or float64, received ${typeName(column)}`,
      hint,
    );
  };
  let lists = 0;
  for (let field = column; ; path.push(field)) {
    const { type, bits, children, dictionary } = field;
    if (dictionary) refuse(`Decode it: pyarrow.compute.dictionary_decode(table["${name}"])`);
    if (type === 'float' && lists > 0) return path;
    if (type === 'int' && bits === 16 && lists > 0) {
      if (bfloat16) return path;
      refuse(`If its integers are the bits of bfloat16, name it in data.bfloat16; ${castOf(name)}`);
    }
    if (BYTES.includes(type) && lists === 0) return path;
    if (LISTS.includes(type)) lists += 1;
    else if (type === 'binary_view') refuse(`Cast it: table["${name}"].cast(pyarrow.large_binary())`);
    else if (type === 'struct' && children.length === 1) lists += 0;
    else if (type === 'struct') {
      refuse(`Name one of its fields: ${children.map((child) => `"${name}.${child.name}"`).join(', ')}`);
    } else refuse(`To train on it, ${castOf(name)}`);
    field = children[0]!;
  }
}

/** How to make a column of numbers of one that is not. */
function castOf(name: string): string {
  return `save it as float16 or float32, for example: dataset.cast_column("${name}", datasets.List(datasets.Value("float32")))`;
}

/** The first row of a batch, and what is the same for all of its rows. `before` is the shape of rows before. */
function runOf(reader: FileReader, chunk: Chunk, reading: Reading, before: readonly number[]): Run {
  const { rows } = chunk.batch;
  let shape: number[] = [];
  /** The elements of the current level that the batch's rows take, and the first of them. */
  let count = rows;
  let first = 0;
  for (const [depth, level] of chunk.levels.entries()) {
    const { field, node, buffer } = level;
    const perRow = count / rows;
    if (node.length < first + count || (depth === 0 && node.length !== rows)) {
      throw chunk.malformed(`${node.length} values where ${first + count} are needed`);
    }
    if (node.nulls > 0) {
      const row = Math.floor(firstNull(reader, level, first) / perRow);
      const hint = `Remove such rows: dataset.filter(lambda row: row["${field.name}"] is not None)`;
      throw chunk.wrong('ERR_DATA_NULL', row, 'expected a value, received null', depth === 0 ? hint : null);
    }
    const { type } = field;
    if (type === 'struct') continue;
    if (type === 'float' || type === 'int') {
      const element = type === 'int' ? 'bfloat16' : (`float${field.bits}` as ElementType);
      const size = ELEMENT_BYTES[element];
      const { offset, length } = buffer(1);
      const needed = (first + count) * size;
      if (needed > length) throw chunk.malformed(`${length} bytes of values where ${needed} are needed`);
      return { type: element, shape, rowBytes: perRow * size, byteOffset: offset + first * size };
    }
    let width = field.listSize;
    if (type.startsWith('fixed_size_')) first *= width;
    else if (type.endsWith('_view')) ({ first, width } = readListViews(reader, chunk, level, first, count));
    else ({ first, width } = readLists(reader, chunk, level, first, count, before[shape.length]));
    if (width < 1) throw chunk.wrong('ERR_DATA_SHAPE', 0, 'the list is empty');
    if (BYTES.includes(type)) return bytesRun(reader, chunk, level, first, width, reading);
    shape = [...shape, width];
    if (field.extension?.name === 'arrow.fixed_shape_tensor') shape = tensorShape(chunk, field);
    count *= width;
    if (!Number.isSafeInteger(first + count)) throw chunk.malformed('the shape overflows');
  }
  throw chunk.malformed('the column has no values');
}

/** The shape of the tensors that a list of this length stores. */
function tensorShape(chunk: Chunk, { extension, listSize }: ArrowField): number[] {
  let parameters: { shape?: unknown; permutation?: unknown };
  try {
    parameters = JSON.parse(extension!.parameters);
  } catch {
    parameters = {};
  }
  const { shape, permutation } = parameters;
  const sides = Array.isArray(shape) ? (shape as unknown[]).map(Number) : [];
  if (sides.length === 0 || sides.reduce((a, b) => a * b, 1) !== listSize) {
    throw chunk.malformed(`a tensor of the shape ${JSON.stringify(shape)} in lists of ${listSize}`);
  }
  if (Array.isArray(permutation) && permutation.some((axis, i) => axis !== i)) {
    throw chunk.wrong(
      'ERR_DATA_SHAPE',
      0,
      `the tensors' axes are permuted (${permutation.join(', ')})`,
      'Save them in row-major order: pyarrow.FixedShapeTensorArray.from_numpy_ndarray(numpy.ascontiguousarray(values))',
    );
  }
  return sides;
}

/** Rows of bytes: an array as `numpy.save` or `tobytes` writes it. */
function bytesRun(
  reader: FileReader,
  chunk: Chunk,
  { field, buffer }: Level,
  first: number,
  width: number,
  { bfloat16 = false, elements = null }: Reading,
): Run {
  const { rows } = chunk.batch;
  const values = buffer(field.type === 'fixed_size_binary' ? 1 : 2);
  const needed = first + rows * width;
  if (needed > values.length)
    throw chunk.malformed(`${values.length} bytes of values where ${needed} are needed`);
  const start = values.offset + first;
  const rowAt = (row: number, bytes: number) =>
    reader.read(start + row * width, bytes, `row ${chunk.batch.firstRow + row}`);
  const npy = readNpyHeader(rowAt(0, Math.min(width, 2 ** 12)));
  if (npy !== null) {
    const type = npy.type ?? (bfloat16 && /^[<|]V2$/.test(npy.descr) ? 'bfloat16' : null);
    if (npy.isColumnMajor) {
      const hint = 'Save numpy.ascontiguousarray(values)';
      throw chunk.wrong('ERR_DATA_TYPE', 0, 'expected a row-major array, received a column-major one', hint);
    }
    if (type !== null) {
      const values = npy.shape.reduce((a, b) => a * b, ELEMENT_BYTES[type]);
      requireEqualHeaders(chunk, npy, width - values, rowAt);
      return { type, shape: npy.shape, rowBytes: width, byteOffset: start + npy.header.length };
    }
    const what = `an array of NumPy's type ${npy.descr}`;
    const hint = `If it is bfloat16, name the column in data.bfloat16; else save it with .astype("float16")`;
    throw chunk.wrong('ERR_DATA_TYPE', 0, `expected float16, float32 or float64, received ${what}`, hint);
  }
  const size = bfloat16 ? 2 : elements === null ? null : width / elements;
  const type = bfloat16 ? 'bfloat16' : ({ 2: 'float16', 4: 'float32', 8: 'float64' } as const)[size ?? 0];
  if (type === undefined || width % ELEMENT_BYTES[type] !== 0 || start % ELEMENT_BYTES[type] !== 0) {
    throw chunk.wrong(
      'ERR_DATA_TYPE',
      0,
      `${width} bytes have no element type${elements === null ? '' : ` for ${elements} elements`}`,
      'Give the shape (data.latent_shape, data.text_shape); name the column in data.bfloat16 if it is that; ' +
        'or save lists of numbers instead of bytes',
    );
  }
  return { type, shape: [width / ELEMENT_BYTES[type]], rowBytes: width, byteOffset: start };
}

/** Every row must begin with this header, which leaves `expected` bytes for it beside the values. */
function requireEqualHeaders(
  chunk: Chunk,
  { header, shape }: NpyHeader,
  expected: number,
  rowAt: (row: number, bytes: number) => Buffer,
): void {
  if (header.length !== expected) {
    throw chunk.malformed(
      `NumPy's header of ${header.length} bytes where ${expected} are left beside the values`,
    );
  }
  for (let row = 1; row < chunk.batch.rows; row++) {
    if (rowAt(row, header.length).equals(header)) continue;
    const what = `expected an array of ${shape.join(' x ')}, like those before it`;
    throw chunk.wrong('ERR_DATA_SHAPE', row, what, 'All rows need one shape and one type');
  }
}

/** Lists whose offsets are read at once. */
const LISTS_PER_READ = 2 ** 16;

/**
 * Reads the offsets of `count` lists from list `from` on, which must have one length: the first element of
 * the first list, and the length.
 *
 * @param before the length of lists in batches before.
 */
function readLists(
  reader: FileReader,
  chunk: Chunk,
  { field, buffer }: Level,
  from: number,
  count: number,
  before: number | undefined,
): { first: number; width: number } {
  const words = field.type.startsWith('large_') ? 2 : 1;
  const size = 4 * words;
  const { offset, length } = buffer(1);
  const needed = (from + count + 1) * size;
  if (needed > length) throw chunk.malformed(`${length} bytes of list offsets where ${needed} are needed`);
  let first = 0;
  let width = 0;
  for (let done = 0; done < count; done += LISTS_PER_READ) {
    const lists = Math.min(LISTS_PER_READ, count - done);
    const bytes = reader.read(offset + (from + done) * size, (lists + 1) * size, 'list offsets');
    // A copy, because views of words must be aligned.
    const view = new Int32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
    if (done === 0) {
      first = offsetAt(view, words, 0);
      width = offsetAt(view, words, 1) - first;
      if (first < 0 || width < 0 || !Number.isSafeInteger(first + width)) {
        throw chunk.malformed('list offsets do not rise');
      }
      if (before !== undefined && width !== before && !BYTES.includes(field.type))
        throw ragged(chunk, 0, before);
    }
    let expected = first + done * width;
    for (let i = 1; i <= lists; i++) {
      expected += width;
      if (offsetAt(view, words, i) === expected) continue;
      const row = Math.floor((done + i - 1) / (count / chunk.batch.rows));
      throw ragged(chunk, row, width);
    }
  }
  return { first, width };
}

function ragged(chunk: Chunk, row: number, width: number): OrchestratorError {
  const hint = 'All rows need one shape: pad or cut them before they are saved';
  return chunk.wrong(
    'ERR_DATA_SHAPE',
    row,
    `expected a list of ${width} elements, like those before it`,
    hint,
  );
}

/** Like readLists, of lists that have their own offsets and sizes: they must follow each other. */
function readListViews(
  reader: FileReader,
  chunk: Chunk,
  { field, buffer }: Level,
  from: number,
  count: number,
): { first: number; width: number } {
  const words = field.type === 'large_list_view' ? 2 : 1;
  const size = 4 * words;
  const wordsOf = (which: number, what: string) => {
    const { offset, length } = buffer(which);
    const needed = (from + count) * size;
    if (needed > length) throw chunk.malformed(`${length} bytes of ${what} where ${needed} are needed`);
    const bytes = reader.read(offset + from * size, count * size, what);
    return new Int32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  };
  const offsets = wordsOf(1, 'list offsets');
  const sizes = wordsOf(2, 'list sizes');
  const first = offsetAt(offsets, words, 0);
  const width = offsetAt(sizes, words, 0);
  if (first < 0 || width < 0 || !Number.isSafeInteger(first + width)) {
    throw chunk.malformed('list offsets are negative');
  }
  for (let i = 0; i < count; i++) {
    if (offsetAt(sizes, words, i) === width && offsetAt(offsets, words, i) === first + i * width) continue;
    const row = Math.floor(i / (count / chunk.batch.rows));
    const hint = `Copy it to lists: table["${field.name}"].cast(pyarrow.list_(TYPE))`;
    const expected = `expected a list of ${width} elements right after the one before it`;
    throw chunk.wrong('ERR_DATA_SHAPE', row, expected, hint);
  }
  return { first, width };
}

/** Offset i of those in little-endian order, of one or two words each. */
function offsetAt(view: Int32Array, words: 1 | 2, i: number): number {
  return words === 1 ? view[i]! : (view[2 * i]! >>> 0) + view[2 * i + 1]! * 2 ** 32;
}

/**
 * The distance from value `first` to the first null. There is one bit per value: a megabyte of them contains
 * the first null of any batch that was not made to be difficult; of others, 0 is returned.
 */
function firstNull(reader: FileReader, { node, buffer }: Level, first: number): number {
  const validity = buffer(0);
  const bits = reader.read(validity.offset, Math.min(validity.length, 2 ** 20), 'the validity bitmap');
  for (let i = first; i < Math.min(bits.length * 8, node.length); i++) {
    if (!(bits[i >> 3]! & (1 << (i & 7)))) return i - first;
  }
  return 0;
}
