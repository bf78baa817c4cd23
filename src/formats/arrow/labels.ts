/** Strings and integers of Arrow files, one by one. */
import { OrchestratorError } from '../../errors.js';
import { FileReader } from '../../files/reader.js';
import { ArrowColumn, type Chunk, fieldPath } from './chunk.js';
import type { ArrowFile } from './file.js';
import { type ArrowField, typeName } from './schema.js';

/** Longest string that is read; no caption is longer. */
const MAX_STRING_BYTES = 2 ** 24;

const isInteger = ({ type, bits }: ArrowField) => type === 'int' && [8, 16, 32, 64].includes(bits);

/** The string or integer in a row of this file, as text; null reads as "". */
export function labelAt(file: ArrowFile, name: string, row: number): string {
  const path = fieldPath(file, name);
  const field = path.at(-1)!;
  if (!isInteger(field) && field.type !== 'utf8' && field.type !== 'large_utf8') {
    throw new OrchestratorError(
      'ERR_DATA_TYPE',
      `${file.path}, column "${name}": expected utf8, large_utf8 or an integer, received ${typeName(field)}`,
      field.type === 'utf8_view' || field.type === 'run_end_encoded'
        ? `Cast it: table.set_column(i, "${name}", table["${name}"].cast(pyarrow.string()))`
        : null,
    );
  }
  const batch = file.batches.find(({ firstRow, rows }) => row >= firstRow && row < firstRow + rows);
  if (!batch) {
    throw new OrchestratorError('ERR_DATA_ROW', `${file.path} has no row ${row}; it has ${file.rows}`);
  }
  const chunk = new ArrowColumn(file, name, path).chunk(batch);
  return FileReader.using(file.path, (reader) => {
    if (!field.dictionary) return valueAt(reader, chunk, field, row - batch.firstRow);
    const { id, bits, signed } = field.dictionary;
    const indices: ArrowField = { ...field, type: 'int', bits, signed, dictionary: null };
    const index = Number(valueAt(reader, chunk, indices, row - batch.firstRow));
    return dictionaryValue(reader, file, name, id, field, index, row);
  });
}

/** All values of a column of integers of 64 bits, which must be below 2^53. */
export function* integersOf(file: ArrowFile, name: string): Generator<number> {
  const path = fieldPath(file, name);
  const field = path.at(-1)!;
  if (field.type !== 'int' || field.bits !== 64 || field.dictionary) {
    throw new OrchestratorError(
      'ERR_DATA_TYPE',
      `${file.path}, column "${name}": expected integers of 64 bits, received ${typeName(field)}`,
    );
  }
  const column = new ArrowColumn(file, name, path);
  for (const batch of file.batches) {
    const chunk = column.chunk(batch);
    const { offset, length } = chunk.levels[0]!.buffer(1);
    if (length < 8 * batch.rows) throw chunk.malformed(`${length} bytes for ${batch.rows} integers`);
    const bytes = FileReader.using(file.path, (reader) =>
      reader.read(offset, 8 * batch.rows, 'its integers'),
    );
    for (let i = 0; i < batch.rows; i++) {
      const value = bytes.readUInt32LE(8 * i) + bytes.readInt32LE(8 * i + 4) * 2 ** 32;
      if (!Number.isSafeInteger(value)) throw chunk.malformed(`row ${i} holds ${value}`);
      yield value;
    }
  }
}

/** Value `index` of a dictionary as it is at a row: its last replacement before, and what continued that. */
function dictionaryValue(
  reader: FileReader,
  file: ArrowFile,
  name: string,
  id: number,
  field: ArrowField,
  index: number,
  row: number,
): string {
  const parts = (file.dictionaries.get(id) ?? []).filter(({ before }) => before <= row);
  const values: ArrowField = { ...field, dictionary: null };
  let local = index;
  for (const { batch } of parts.slice(parts.findLastIndex(({ isDelta }) => !isDelta))) {
    if (local >= 0 && local < batch.rows) {
      const chunk = new ArrowColumn(file, name, [values], [values]).chunk(batch);
      return valueAt(reader, chunk, values, local);
    }
    local -= batch.rows;
  }
  throw new OrchestratorError(
    'ERR_DATA_FORMAT',
    `${file.path}, column "${name}", row ${row}: its dictionary has no value ${index}`,
  );
}

/** The string or integer at a position of a chunk. */
function valueAt(reader: FileReader, chunk: Chunk, field: ArrowField, i: number): string {
  const { buffer, node } = chunk.levels.at(-1)!;
  const integers = isInteger(field);
  const size = field.type === 'utf8' ? 4 : field.type === 'large_utf8' ? 8 : field.bits / 8;
  const entries = integers ? 1 : 2;
  const values = buffer(1);
  if (node.length < i + 1 || (i + entries) * size > values.length) {
    throw chunk.malformed(`${values.length} bytes where value ${i} needs ${(i + entries) * size}`);
  }
  const raw = reader.read(values.offset + i * size, entries * size, `value ${i}`);
  if (integers) return integer(raw, field.signed).toString();
  const [start, end] =
    size === 4
      ? [raw.readInt32LE(0), raw.readInt32LE(4)]
      : [Number(raw.readBigInt64LE(0)), Number(raw.readBigInt64LE(8))];
  const text = buffer(2);
  if (start < 0 || end < start || end > text.length || end - start > MAX_STRING_BYTES) {
    throw chunk.malformed(`the string of value ${i} lies at ${start} to ${end} of ${text.length} bytes`);
  }
  return reader.read(text.offset + start, end - start, `value ${i}`).toString('utf8');
}

function integer(raw: Buffer, signed: boolean): bigint {
  let value = 0n;
  for (const byte of raw.reverse()) value = (value << 8n) | BigInt(byte);
  return signed ? BigInt.asIntN(raw.length * 8, value) : value;
}
