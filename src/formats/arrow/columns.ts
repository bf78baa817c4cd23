/** Where a column's values are: contiguous runs of rows for numbers, and lazily read strings. */
import { OrchestratorError } from '../../errors.js';
import type { NativeAddon } from '../../native/contract.js';
import { type ArrowBatch, type ArrowFile, FileReader } from './file.js';
import { type ArrowField, type ArrowNode, extentOf, ownBuffers, typeName } from './schema.js';

/** The native check that the lists of a column have equal lengths. */
export type CheckListOffsets = NativeAddon['checkListOffsets'];

/** A column of numbers in one file. */
export interface NumericColumn {
  type: 'float16' | 'float32';
  /** Shape of one row, as the file nests it: [1024] for a flat list, [16, 8, 8] for Array3D. */
  shape: number[];
  segments: { firstRow: number; rows: number; byteOffset: number }[];
}

/** The index of the field with this name; ERR_DATA_COLUMN lists the names that exist. */
function fieldOf(file: ArrowFile, name: string): number {
  const index = file.fields.findIndex((field) => field.name === name);
  if (index >= 0) return index;
  const names = file.fields.map((field) => `"${field.name}"`).join(', ');
  throw new OrchestratorError(
    'ERR_DATA_COLUMN',
    `${file.path} has no column "${name}"; it has ${names || 'none'}`,
  );
}

/** One level of a nested column in one batch: its node, and the positions of its buffers. */
interface Level {
  field: ArrowField;
  node: ArrowNode;
  /** Byte offset in the file and length of the validity, offsets or values. */
  buffers: { offset: number; length: number }[];
}

/** The levels of a column, from the column itself to its innermost values. */
function levelsOf(file: ArrowFile, batch: ArrowBatch, fieldIndex: number): Level[] {
  let variadic = 0;
  const takeVariadicCount = () => batch.variadicCounts[variadic++] ?? 0;
  let node = 0;
  let buffer = 0;
  for (const field of file.fields.slice(0, fieldIndex)) {
    const extent = extentOf(field, takeVariadicCount);
    node += extent.nodes;
    buffer += extent.buffers;
  }
  const levels: Level[] = [];
  for (let field: ArrowField | undefined = file.fields[fieldIndex]; field; field = field.children[0]) {
    const count = ownBuffers(field, takeVariadicCount);
    const own = batch.nodes[node];
    const buffers = batch.buffers.slice(buffer, buffer + count);
    if (!own || buffers.length !== count) throw bad(file, batch, fieldIndex, 'the batch lacks its buffers');
    levels.push({
      field,
      node: own,
      buffers: buffers.map(({ offset, length }) => ({ offset: batch.body + offset, length })),
    });
    node += 1;
    buffer += count;
    if (field.dictionary) break;
  }
  return levels;
}

/**
 * The runs of a column of float16 or float32 in (nested) lists of one size.
 *
 * @throws OrchestratorError ERR_DATA_COLUMN, ERR_DATA_TYPE, ERR_DATA_SHAPE (lists of unequal length),
 *   ERR_DATA_NULL, ERR_DATA_COMPRESSED, ERR_DATA_FORMAT: messages name file, column and row.
 */
export function numericColumn(
  file: ArrowFile,
  name: string,
  checkListOffsets: CheckListOffsets,
): NumericColumn {
  const index = fieldOf(file, name);
  const field = file.fields[index]!;
  const type = elementType(file, field);
  const column: NumericColumn = { type, shape: [], segments: [] };
  for (const batch of file.batches) {
    refuseCompressed(file, name, batch);
    const run = contiguousRun(file, batch, index, checkListOffsets);
    if (column.segments.length === 0) column.shape = run.shape;
    if (run.shape.join() !== column.shape.join()) {
      throw new OrchestratorError(
        'ERR_DATA_SHAPE',
        `${file.path}, column "${name}", row ${batch.firstRow}: expected ${column.shape.join(' x ')} elements as in ` +
          `the rows before, received ${run.shape.join(' x ')}`,
      );
    }
    column.segments.push({ firstRow: batch.firstRow, rows: batch.rows, byteOffset: run.byteOffset });
  }
  return column;
}

function elementType(file: ArrowFile, field: ArrowField): 'float16' | 'float32' {
  let leaf = field;
  while (!leaf.dictionary && ['list', 'large_list', 'fixed_size_list'].includes(leaf.type))
    leaf = leaf.children[0]!;
  if (leaf !== field && !leaf.dictionary && leaf.type === 'float') {
    if (leaf.bits === 16) return 'float16';
    if (leaf.bits === 32) return 'float32';
  }
  throw new OrchestratorError(
    'ERR_DATA_TYPE',
    `${file.path}, column "${field.name}": expected lists of float16 or float32, received ${typeName(field)}`,
  );
}

function refuseCompressed(file: ArrowFile, name: string, batch: ArrowBatch): void {
  if (batch.compression === null) return;
  throw new OrchestratorError(
    'ERR_DATA_COMPRESSED',
    `${file.path}, column "${name}", row ${batch.firstRow}: record batch ${batch.index} is compressed with ` +
      `${batch.compression}; compressed files cannot be mapped`,
    'Write the file again without compression: pyarrow.ipc.IpcWriteOptions(compression=None)',
  );
}

/** The shape of a row, and the byte offset of the batch's first row. */
function contiguousRun(
  file: ArrowFile,
  batch: ArrowBatch,
  index: number,
  checkListOffsets: CheckListOffsets,
): { shape: number[]; byteOffset: number } {
  const levels = levelsOf(file, batch, index);
  const shape: number[] = [];
  /** The elements of the current level that the batch's rows take, and the first of them. */
  let count = batch.rows;
  let first = 0;
  for (const [depth, { field, node, buffers }] of levels.entries()) {
    const elementsPerRow = count / batch.rows;
    if (node.length < first + count || (depth === 0 && node.length !== batch.rows)) {
      throw bad(file, batch, index, `${node.length} values where ${first + count} are needed`);
    }
    if (node.nulls > 0) throw nulls(file, batch, index, buffers[0]!, node, first, elementsPerRow);
    if (field.type === 'float') {
      const bytes = field.bits / 8;
      const values = buffers[1]!;
      if ((first + count) * bytes > values.length) {
        throw bad(
          file,
          batch,
          index,
          `${values.length} bytes of values where ${(first + count) * bytes} are needed`,
        );
      }
      return { shape, byteOffset: values.offset + first * bytes };
    }
    let width = field.listSize;
    if (field.type === 'fixed_size_list') {
      first *= width;
    } else {
      const wide = field.type === 'large_list';
      const offsets = listOffsets(file, batch, index, buffers[1]!, first, count, wide);
      width = offsets.width;
      const found = checkListOffsets(file.path, offsets.position, count, width, wide);
      if (found.badRow >= 0) {
        const row = batch.firstRow + Math.floor(found.badRow / elementsPerRow);
        throw new OrchestratorError(
          'ERR_DATA_SHAPE',
          `${file.path}, column "${file.fields[index]!.name}", row ${row}: expected a list of ${width} elements, like those before it`,
        );
      }
      first = found.first;
    }
    if (width < 1) {
      throw new OrchestratorError(
        'ERR_DATA_SHAPE',
        `${file.path}, column "${file.fields[index]!.name}", row ${batch.firstRow}: the list is empty`,
      );
    }
    shape.push(width);
    count *= width;
    if (!Number.isSafeInteger(first + count)) throw bad(file, batch, index, 'the shape overflows');
  }
  throw bad(file, batch, index, 'the column has no values');
}

/**
 * The position of the offsets of `count` lists from list `first` on, and the length of the first of these
 * lists.
 */
function listOffsets(
  file: ArrowFile,
  batch: ArrowBatch,
  index: number,
  buffer: { offset: number; length: number },
  first: number,
  count: number,
  wide: boolean,
): { position: number; width: number } {
  const size = wide ? 8 : 4;
  if ((first + count + 1) * size > buffer.length) {
    throw bad(
      file,
      batch,
      index,
      `${buffer.length} bytes of list offsets where ${(first + count + 1) * size} are needed`,
    );
  }
  const position = buffer.offset + first * size;
  const reader = new FileReader(file.path);
  try {
    const pair = reader.read(position, 2 * size, 'list offsets');
    const width = wide
      ? Number(pair.readBigInt64LE(8) - pair.readBigInt64LE(0))
      : pair.readInt32LE(4) - pair.readInt32LE(0);
    if (!Number.isSafeInteger(width) || width < 0) throw bad(file, batch, index, 'list offsets do not rise');
    return { position, width };
  } finally {
    reader.close();
  }
}

function nulls(
  file: ArrowFile,
  batch: ArrowBatch,
  index: number,
  validity: { offset: number; length: number },
  node: ArrowNode,
  first: number,
  elementsPerRow: number,
): OrchestratorError {
  const reader = new FileReader(file.path);
  let row = batch.firstRow;
  try {
    // There is one bit per value: a megabyte of them contains the first null of any batch that was not made
    // to be difficult.
    const bits = reader.read(validity.offset, Math.min(validity.length, 2 ** 20), 'the validity bitmap');
    for (let i = first; i < Math.min(bits.length * 8, node.length); i++) {
      if (bits[i >> 3]! & (1 << (i & 7))) continue;
      row += Math.floor((i - first) / elementsPerRow);
      break;
    }
  } finally {
    reader.close();
  }
  return new OrchestratorError(
    'ERR_DATA_NULL',
    `${file.path}, column "${file.fields[index]!.name}", row ${row}: expected a value, received null`,
  );
}

function bad(file: ArrowFile, batch: ArrowBatch, index: number, what: string): OrchestratorError {
  return new OrchestratorError(
    'ERR_DATA_FORMAT',
    `${file.path}, column "${file.fields[index]!.name}", record batch ${batch.index} (from row ${batch.firstRow}): ${what}`,
  );
}

/** Longest string that is read; no caption is longer. */
const MAX_STRING_BYTES = 2 ** 24;

/** The strings or integers of a column, read on demand. */
export class LabelColumn {
  readonly #file: ArrowFile;
  readonly #index: number;

  /**
   * @throws OrchestratorError ERR_DATA_COLUMN, ERR_DATA_TYPE (neither utf8, large_utf8 nor an integer),
   *   ERR_DATA_COMPRESSED.
   */
  constructor(file: ArrowFile, name: string) {
    this.#file = file;
    this.#index = fieldOf(file, name);
    const field = file.fields[this.#index]!;
    const isInteger = field.type === 'int' && [8, 16, 32, 64].includes(field.bits);
    if (field.dictionary || !(isInteger || field.type === 'utf8' || field.type === 'large_utf8')) {
      throw new OrchestratorError(
        'ERR_DATA_TYPE',
        `${file.path}, column "${name}": expected utf8, large_utf8 or an integer, received ${typeName(field)}`,
      );
    }
    for (const batch of file.batches) refuseCompressed(file, name, batch);
  }

  /**
   * The values at rows of this file; a null string reads as "".
   *
   * @throws OrchestratorError ERR_DATA_FORMAT, ERR_DATA_ROW.
   */
  read(rows: Iterable<number>): string[] {
    const reader = new FileReader(this.#file.path);
    try {
      return Array.from(rows, (row) => this.#readOne(reader, row));
    } finally {
      reader.close();
    }
  }

  #readOne(reader: FileReader, row: number): string {
    const batch = this.#batchOf(row);
    const { field, buffers, node } = levelsOf(this.#file, batch, this.#index)[0]!;
    const i = row - batch.firstRow;
    const size = field.type === 'utf8' ? 4 : field.type === 'large_utf8' ? 8 : field.bits / 8;
    const values = buffers[1]!;
    const entries = field.type === 'int' ? 1 : 2;
    if (node.length !== batch.rows || (i + entries) * size > values.length) {
      throw bad(
        this.#file,
        batch,
        this.#index,
        `${values.length} bytes where row ${row} needs ${(i + entries) * size}`,
      );
    }
    const raw = reader.read(values.offset + i * size, entries * size, `row ${row}`);
    if (field.type === 'int') return integer(raw, field).toString();
    const [start, end] =
      size === 4
        ? [raw.readInt32LE(0), raw.readInt32LE(4)]
        : [Number(raw.readBigInt64LE(0)), Number(raw.readBigInt64LE(8))];
    const text = buffers[2]!;
    if (start < 0 || end < start || end > text.length || end - start > MAX_STRING_BYTES) {
      throw bad(
        this.#file,
        batch,
        this.#index,
        `the string of row ${row} lies at ${start} to ${end} of ${text.length} bytes`,
      );
    }
    return reader.read(text.offset + start, end - start, `row ${row}`).toString('utf8');
  }

  #batchOf(row: number): ArrowBatch {
    const { batches } = this.#file;
    let low = 0;
    let high = batches.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (batches[middle]!.firstRow <= row) low = middle + 1;
      else high = middle;
    }
    const batch = batches[low - 1];
    if (!batch || !(row - batch.firstRow < batch.rows)) {
      throw new OrchestratorError(
        'ERR_DATA_ROW',
        `${this.#file.path} has no row ${row}; it has ${this.#file.rows}`,
      );
    }
    return batch;
  }
}

function integer(raw: Buffer, field: ArrowField): bigint {
  const bits = raw.length * 8;
  let value = 0n;
  for (const byte of raw.reverse()) value = (value << 8n) | BigInt(byte);
  return field.signed ? BigInt.asIntN(bits, value) : value;
}
