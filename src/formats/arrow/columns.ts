/** Where a column's values are in an Arrow file: contiguous runs of rows of numbers, labels one by one. */
import { type ErrorCode, OrchestratorError } from '../../errors.js';
import { FileReader } from '../../files/reader.js';
import type { ArrowBatch, ArrowFile } from './file.js';
import { type ArrowField, ownBuffers, typeName } from './schema.js';

/** A column of numbers in one file. */
export interface NumericColumn {
  type: 'float16' | 'float32';
  /** Shape of one row, as the file nests it: [1024] for a flat list, [16, 8, 8] for Array3D. */
  shape: number[];
  segments: { firstRow: number; rows: number; byteOffset: number }[];
}

/** One level of a nested column in one batch: its node, and the positions of its buffers. */
interface Level {
  field: ArrowField;
  node: ArrowBatch['nodes'][number];
  /** Byte offset in the file and length of the validity, offsets or values. */
  buffers: ArrowBatch['buffers'];
}

/** One column in one record batch. */
class Chunk {
  readonly batch: ArrowBatch;
  /** From the column itself to its innermost values. */
  readonly levels: Level[];
  readonly #column: string;

  constructor(file: ArrowFile, field: ArrowField, batch: ArrowBatch) {
    this.batch = batch;
    this.#column = `${file.path}, column "${field.name}"`;
    if (batch.compression !== null) {
      throw new OrchestratorError(
        'ERR_DATA_COMPRESSED',
        `${this.#column}, row ${batch.firstRow}: record batch ${batch.index} is compressed with ` +
          `${batch.compression}; compressed files cannot be mapped`,
        'Write the file again without compression: pyarrow.ipc.IpcWriteOptions(compression=None)',
      );
    }
    this.levels = this.#levelsOf(file.fields, field);
  }

  /** The error for values that cannot be used, by the row of the batch that they belong to. */
  wrong(code: ErrorCode, row: number, what: string): OrchestratorError {
    return new OrchestratorError(code, `${this.#column}, row ${this.batch.firstRow + row}: ${what}`);
  }

  /** The error for a batch whose parts contradict each other. */
  malformed(what: string): OrchestratorError {
    const { index, firstRow } = this.batch;
    const where = `${this.#column}, record batch ${index} (from row ${firstRow})`;
    return new OrchestratorError('ERR_DATA_FORMAT', `${where}: ${what}`);
  }

  /** The column's levels, whose nodes and buffers follow those of all columns before it. */
  #levelsOf(fields: readonly ArrowField[], column: ArrowField): Level[] {
    const { body, nodes, buffers: all, variadicCounts } = this.batch;
    let [node, buffer, variadic] = [0, 0, 0];
    const take = (field: ArrowField): Level[] => {
      const first = buffer;
      buffer += ownBuffers(field, () => variadicCounts[variadic++] ?? 0);
      const own = nodes[node++];
      if (!own || buffer > all.length) throw this.malformed('the batch lacks its buffers');
      const buffers = all
        .slice(first, buffer)
        .map(({ offset, length }) => ({ offset: body + offset, length }));
      const below = field.dictionary ? [] : field.children.map(take);
      return [{ field, node: own, buffers }, ...(below[0] ?? [])];
    };
    for (const before of fields.slice(0, fields.indexOf(column))) take(before);
    return take(column);
  }
}

/** The field with this name; ERR_DATA_COLUMN lists the names that exist. */
function fieldOf(file: ArrowFile, name: string): ArrowField {
  const found = file.fields.find((field) => field.name === name);
  if (found) return found;
  const names = file.fields.map((field) => `"${field.name}"`).join(', ');
  throw new OrchestratorError(
    'ERR_DATA_COLUMN',
    `${file.path} has no column "${name}"; it has ${names || 'none'}`,
  );
}

function wrongType(file: ArrowFile, field: ArrowField, expected: string): OrchestratorError {
  return new OrchestratorError(
    'ERR_DATA_TYPE',
    `${file.path}, column "${field.name}": expected ${expected}, received ${typeName(field)}`,
  );
}

/**
 * The runs of a column of float16 or float32 in (nested) lists of one size. ERR_DATA_* for any other column,
 * for nulls and for compressed batches: messages name file, column and row.
 */
export function numericColumn(file: ArrowFile, name: string): NumericColumn {
  const field = fieldOf(file, name);
  const column: NumericColumn = { type: elementType(file, field), shape: [], segments: [] };
  return FileReader.using(file.path, (reader) => {
    for (const batch of file.batches) {
      const chunk = new Chunk(file, field, batch);
      const { shape, byteOffset } = contiguousRun(reader, chunk);
      if (column.segments.length === 0) column.shape = shape;
      if (shape.join() !== column.shape.join()) {
        const before = `${column.shape.join(' x ')} elements as in the rows before`;
        throw chunk.wrong('ERR_DATA_SHAPE', 0, `expected ${before}, received ${shape.join(' x ')}`);
      }
      column.segments.push({ firstRow: batch.firstRow, rows: batch.rows, byteOffset });
    }
    return column;
  });
}

function elementType(file: ArrowFile, field: ArrowField): NumericColumn['type'] {
  let leaf = field;
  while (!leaf.dictionary && ['list', 'large_list', 'fixed_size_list'].includes(leaf.type)) {
    leaf = leaf.children[0]!;
  }
  if (leaf !== field && !leaf.dictionary && leaf.type === 'float') {
    if (leaf.bits === 16) return 'float16';
    if (leaf.bits === 32) return 'float32';
  }
  throw wrongType(file, field, 'lists of float16 or float32');
}

/** The shape of a row, and the byte offset of the batch's first row. */
function contiguousRun(reader: FileReader, chunk: Chunk): { shape: number[]; byteOffset: number } {
  const { rows } = chunk.batch;
  const shape: number[] = [];
  /** The elements of the current level that the batch's rows take, and the first of them. */
  let count = rows;
  let first = 0;
  for (const [depth, level] of chunk.levels.entries()) {
    const { field, node, buffers } = level;
    const perRow = count / rows;
    if (node.length < first + count || (depth === 0 && node.length !== rows)) {
      throw chunk.malformed(`${node.length} values where ${first + count} are needed`);
    }
    if (node.nulls > 0) {
      const row = Math.floor(firstNull(reader, level, first) / perRow);
      throw chunk.wrong('ERR_DATA_NULL', row, 'expected a value, received null');
    }
    if (field.type === 'float') {
      const size = field.bits / 8;
      const { offset, length } = buffers[1]!;
      const needed = (first + count) * size;
      if (needed > length) throw chunk.malformed(`${length} bytes of values where ${needed} are needed`);
      return { shape, byteOffset: offset + first * size };
    }
    let width = field.listSize;
    if (field.type === 'fixed_size_list') {
      first *= width;
    } else {
      ({ first, width } = readLists(reader, chunk, level, first, count));
    }
    if (width < 1) throw chunk.wrong('ERR_DATA_SHAPE', 0, 'the list is empty');
    shape.push(width);
    count *= width;
    if (!Number.isSafeInteger(first + count)) throw chunk.malformed('the shape overflows');
  }
  throw chunk.malformed('the column has no values');
}

/** Lists whose offsets are read at once. */
const LISTS_PER_READ = 2 ** 16;

/**
 * Reads the offsets of `count` lists from list `from` on, which must have one length: the first element of
 * the first list, and the length.
 */
function readLists(
  reader: FileReader,
  chunk: Chunk,
  { field, buffers }: Level,
  from: number,
  count: number,
): { first: number; width: number } {
  const words = field.type === 'large_list' ? 2 : 1;
  const size = 4 * words;
  const { offset, length } = buffers[1]!;
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
    }
    let expected = first + done * width;
    for (let i = 1; i <= lists; i++) {
      expected += width;
      if (offsetAt(view, words, i) === expected) continue;
      const row = Math.floor((done + i - 1) / (count / chunk.batch.rows));
      throw chunk.wrong('ERR_DATA_SHAPE', row, `expected a list of ${width} elements, like those before it`);
    }
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
function firstNull(reader: FileReader, { node, buffers }: Level, first: number): number {
  const validity = buffers[0]!;
  const bits = reader.read(validity.offset, Math.min(validity.length, 2 ** 20), 'the validity bitmap');
  for (let i = first; i < Math.min(bits.length * 8, node.length); i++) {
    if (!(bits[i >> 3]! & (1 << (i & 7)))) return i - first;
  }
  return 0;
}

/** Longest string that is read; no caption is longer. */
const MAX_STRING_BYTES = 2 ** 24;

/** The string or integer in a row of this file, as text; null reads as "". */
export function labelAt(file: ArrowFile, name: string, row: number): string {
  const column = fieldOf(file, name);
  const isInteger = column.type === 'int' && [8, 16, 32, 64].includes(column.bits);
  if (column.dictionary || !(isInteger || column.type === 'utf8' || column.type === 'large_utf8')) {
    throw wrongType(file, column, 'utf8, large_utf8 or an integer');
  }
  const batch = file.batches.find(({ firstRow, rows }) => row >= firstRow && row < firstRow + rows);
  if (!batch)
    throw new OrchestratorError('ERR_DATA_ROW', `${file.path} has no row ${row}; it has ${file.rows}`);
  const chunk = new Chunk(file, column, batch);
  const { field, buffers, node } = chunk.levels[0]!;
  const i = row - batch.firstRow;
  const size = field.type === 'utf8' ? 4 : field.type === 'large_utf8' ? 8 : field.bits / 8;
  const entries = isInteger ? 1 : 2;
  const values = buffers[1]!;
  if (node.length !== batch.rows || (i + entries) * size > values.length) {
    throw chunk.malformed(`${values.length} bytes where row ${row} needs ${(i + entries) * size}`);
  }
  return FileReader.using(file.path, (reader) => {
    const raw = reader.read(values.offset + i * size, entries * size, `row ${row}`);
    if (isInteger) return integer(raw, field).toString();
    const [start, end] =
      size === 4
        ? [raw.readInt32LE(0), raw.readInt32LE(4)]
        : [Number(raw.readBigInt64LE(0)), Number(raw.readBigInt64LE(8))];
    const text = buffers[2]!;
    if (start < 0 || end < start || end > text.length || end - start > MAX_STRING_BYTES) {
      throw chunk.malformed(`the string of row ${row} lies at ${start} to ${end} of ${text.length} bytes`);
    }
    return reader.read(text.offset + start, end - start, `row ${row}`).toString('utf8');
  });
}

function integer(raw: Buffer, field: ArrowField): bigint {
  let value = 0n;
  for (const byte of raw.reverse()) value = (value << 8n) | BigInt(byte);
  return field.signed ? BigInt.asIntN(raw.length * 8, value) : value;
}
