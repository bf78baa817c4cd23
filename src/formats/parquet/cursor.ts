/**
 * Reads one column of a Parquet row group from beginning to end, page by page. Lists are not assembled: all
 * rows must have one shape, so their values are copied as they are stored. Modules inside of hyparquet are
 * used, so its version is pinned.
 */
import type { ColumnMetaData, PageHeader } from 'hyparquet';
import { parquetHeader } from 'hyparquet/src/column.js';
import { decompressPage } from 'hyparquet/src/datapage.js';
import { readRleBitPackedHybrid } from 'hyparquet/src/encoding.js';
import { readVarInt } from 'hyparquet/src/thrift.js';
import { compressors } from 'hyparquet-compressors';
import { type ErrorCode, OrchestratorError } from '../../errors.js';
import type { FileReader } from '../../files/reader.js';
import { dictionaryIndices, GATHER } from './dictionary.js';
import { type ParquetColumn, readingParquet } from './file.js';
import { listShape } from './levels.js';

/** Bytes read for a page's header, and again doubled if they are not enough. */
const HEADER_BYTES = 2 ** 12;
const MAX_HEADER_BYTES = 2 ** 22;
/** No page that a writer makes is larger. */
const MAX_PAGE_BYTES = 2 ** 30;

/** Values of a page: fixed-size ones one after the other, others one by one; null where they are null. */
interface Page {
  count: number;
  fixed: Uint8Array;
  various: (Uint8Array | null)[];
}

export class ColumnCursor {
  readonly #reader: FileReader;
  readonly #column: ParquetColumn;
  readonly #chunk: ColumnMetaData;
  readonly #where: string;
  readonly #end: number;
  #position: number;
  /** Values of a row; 1 for columns without lists. */
  readonly width: number;
  /** The repetition levels of a row, and how many values of the chunk they were compared with. */
  readonly #pattern: Uint8Array;
  #compared = 0;
  #dictionary: Page | null = null;
  #page: Page = { count: 0, fixed: new Uint8Array(), various: [] };
  #used = 0;

  constructor(reader: FileReader, column: ParquetColumn, chunk: ColumnMetaData, rows: number) {
    this.#reader = reader;
    this.#column = column;
    this.#chunk = chunk;
    this.#where = `${reader.path}, column "${column.name}"`;
    this.#position = Number(chunk.dictionary_page_offset ?? chunk.data_page_offset);
    this.#end = this.#position + Number(chunk.total_compressed_size);
    this.width = column.maxRepetition === 0 ? 1 : Number(chunk.num_values) / rows;
    if (!Number.isInteger(this.width) || this.width < 1 || this.width > 2 ** 31) {
      throw this.#wrong(
        'ERR_DATA_SHAPE',
        `${chunk.num_values} values in ${rows} rows: the lists have several lengths`,
      );
    }
    this.#pattern = new Uint8Array(this.width);
  }

  /** The shape of a row, once it was read; [] for columns without lists. */
  get shape(): number[] {
    return this.#column.maxRepetition === 0 ? [] : listShape(this.#pattern, this.#column.maxRepetition)!;
  }

  /** The values of the next rows, one after the other. */
  numbers(rows: number): Uint8Array {
    const size = this.#column.storedBytes;
    const out = new Uint8Array(rows * this.width * size);
    for (let at = 0; at < out.length; ) {
      this.#nextPage();
      const count = Math.min(this.#page.count - this.#used, (out.length - at) / size);
      out.set(this.#page.fixed.subarray(this.#used * size, (this.#used + count) * size), at);
      this.#used += count;
      at += count * size;
    }
    return this.#column.type === 'uint16' ? lowerHalves(out) : out;
  }

  /** The values of the next rows, one by one; null where they are null. */
  values(rows: number): (Uint8Array | null)[] {
    const out: (Uint8Array | null)[] = [];
    while (out.length < rows) {
      this.#nextPage();
      const count = Math.min(this.#page.count - this.#used, rows - out.length);
      out.push(...this.#page.various.slice(this.#used, this.#used + count));
      this.#used += count;
    }
    return out;
  }

  #nextPage(): void {
    while (this.#used === this.#page.count) {
      if (this.#position >= this.#end)
        throw this.#wrong('ERR_DATA_FORMAT', 'the column has fewer values than rows');
      const { header, start } = this.#header();
      const bytes = header.compressed_page_size;
      if (!(bytes >= 0 && bytes <= this.#end - start) || !(header.uncompressed_page_size <= MAX_PAGE_BYTES)) {
        throw this.#wrong('ERR_DATA_FORMAT', `a page claims to have ${bytes} bytes`);
      }
      const stored = this.#reader.read(start, bytes, 'a page');
      this.#position = start + bytes;
      readingParquet(this.#where, () => this.#decode(header, stored));
    }
  }

  /** The header of the page at the position, and where its bytes begin. */
  #header(): { header: PageHeader; start: number } {
    for (let bytes = HEADER_BYTES; ; bytes *= 2) {
      const length = Math.min(bytes, this.#end - this.#position);
      const reader = readerOf(this.#reader.read(this.#position, length, "a page's header"));
      try {
        const header = parquetHeader(reader);
        return { header, start: this.#position + reader.offset };
      } catch (error) {
        // The header may go on beyond what was read.
        if (length === this.#end - this.#position || bytes >= MAX_HEADER_BYTES) {
          throw this.#wrong('ERR_DATA_FORMAT', (error as Error).message);
        }
      }
    }
  }

  #decode(header: PageHeader, stored: Uint8Array): void {
    const { codec } = this.#chunk;
    const { maxRepetition, maxDefinition } = this.#column;
    const size = Number(header.uncompressed_page_size);
    const v1 = header.data_page_header;
    const v2 = header.data_page_header_v2;
    if (header.dictionary_page_header) {
      const page = decompressPage(stored, size, codec, compressors);
      const { num_values } = header.dictionary_page_header;
      this.#dictionary = this.#plain(page, num_values, null);
      return;
    }
    if (v1) {
      const page = decompressPage(stored, size, codec, compressors);
      const reader = readerOf(page);
      const repetition = levels(reader, maxRepetition, v1.num_values);
      const definition = definitionLevels(reader, maxDefinition, v1.num_values);
      this.#take(repetition, definition, v1.num_values, v1.encoding, page.subarray(reader.offset));
    } else if (v2) {
      const [repeated, defined] = [v2.repetition_levels_byte_length, v2.definition_levels_byte_length];
      const reader = readerOf(stored);
      const repetition = levels(reader, maxRepetition, v2.num_values, repeated);
      reader.offset = repeated;
      const definition = definitionLevels(reader, maxDefinition, v2.num_values, defined);
      const rest = stored.subarray(repeated + defined);
      const values = v2.is_compressed
        ? decompressPage(rest, size - repeated - defined, codec, compressors)
        : rest;
      this.#take(repetition, definition, v2.num_values, v2.encoding, values);
    }
  }

  #take(
    repetition: Uint8Array | null,
    definition: Uint8Array | null,
    count: number,
    encoding: string | undefined,
    bytes: Uint8Array,
  ): void {
    if (repetition !== null) this.#compare(repetition);
    const { type } = this.#column;
    const nulls = definition;
    if (nulls !== null && type !== 'utf8' && type !== 'int64') {
      throw this.#wrong('ERR_DATA_NULL', 'a value is null, or a list is empty');
    }
    this.#used = 0;
    if (encoding === 'PLAIN') this.#page = this.#plain(bytes, count, nulls);
    else if (encoding === 'PLAIN_DICTIONARY' || encoding === 'RLE_DICTIONARY')
      this.#page = this.#lookUp(bytes, count, nulls);
    else if (encoding === 'BYTE_STREAM_SPLIT' && nulls === null) this.#page = this.#unsplit(bytes, count);
    else {
      throw this.#wrong(
        'ERR_DATA_FORMAT',
        `values are encoded as ${encoding}, which is not read`,
        'Write the file again with pyarrow.parquet.write_table(table, path, column_encoding="PLAIN", use_dictionary=False)',
      );
    }
  }

  /** Every row must repeat the pattern of the first. */
  #compare(repetition: Uint8Array): void {
    for (let at = 0; at < repetition.length; ) {
      const inRow = this.#compared % this.width;
      const count = Math.min(this.width - inRow, repetition.length - at);
      const part = repetition.subarray(at, at + count);
      if (this.#compared < this.width) {
        this.#pattern.set(part, inRow);
        if (inRow + count === this.width && listShape(this.#pattern, this.#column.maxRepetition) === null)
          this.#ragged(0);
      } else if (Buffer.compare(part, this.#pattern.subarray(inRow, inRow + count)) !== 0) {
        this.#ragged(Math.floor(this.#compared / this.width));
      }
      this.#compared += count;
      at += count;
    }
  }

  #ragged(row: number): never {
    throw this.#wrong('ERR_DATA_SHAPE', `row ${row} of a row group has another shape than those before it`);
  }

  /** Values one after the other. `nulls` holds definition levels, where some are null, and not stored. */
  #plain(bytes: Uint8Array, count: number, nulls: Uint8Array | null): Page {
    const size = this.#column.storedBytes;
    const various: (Uint8Array | null)[] = [];
    if (size > 0 && this.#column.maxRepetition > 0) {
      if (bytes.length < count * size) throw new Error(`${bytes.length} bytes for ${count} values`);
      return { count, fixed: bytes, various };
    }
    const { view } = readerOf(bytes);
    let at = 0;
    for (let i = 0; i < count; i++) {
      if (nulls !== null && nulls[i] !== this.#column.maxDefinition) {
        various.push(null);
        continue;
      }
      const length = size > 0 ? size : view.getUint32(at, true);
      at += size > 0 ? 0 : 4;
      if (at + length > bytes.length) throw new Error(`a value of ${length} bytes ends beyond its page`);
      various.push(bytes.subarray(at, at + length));
      at += length;
    }
    return { count, fixed: new Uint8Array(), various };
  }

  /** Values by their index in the dictionary. */
  #lookUp(bytes: Uint8Array, count: number, nulls: Uint8Array | null): Page {
    const dictionary = this.#dictionary;
    if (dictionary === null) throw new Error('the column has no dictionary');
    const isThere = (i: number) => nulls === null || nulls[i] === this.#column.maxDefinition;
    const present = nulls === null ? count : nulls.filter((_, i) => isThere(i)).length;
    const indices = dictionaryIndices(bytes, present, dictionary.count);
    if (dictionary.various.length > 0) {
      let next = 0;
      const various = Array.from({ length: count }, (_, i) =>
        isThere(i) ? dictionary.various[indices[next++]!]! : null,
      );
      return { count, fixed: new Uint8Array(), various };
    }
    const gather = GATHER[this.#column.storedBytes as keyof typeof GATHER];
    return { count, fixed: gather(new Uint8Array(dictionary.fixed).buffer, indices), various: [] };
  }

  /** Values whose first bytes come first, then all second ones, and so on. */
  #unsplit(bytes: Uint8Array, count: number): Page {
    const size = this.#column.storedBytes;
    const fixed = new Uint8Array(count * size);
    for (let b = 0; b < size; b++) {
      for (let i = 0; i < count; i++) fixed[i * size + b] = bytes[b * count + i]!;
    }
    return this.#plain(fixed, count, null);
  }

  #wrong(code: ErrorCode, what: string, hint: string | null = null): OrchestratorError {
    const leaveOut = `Leave the column out with --leave-out ${this.#column.name}, or mend it`;
    return new OrchestratorError(code, `${this.#where}: ${what}`, hint ?? leaveOut);
  }
}

function smallest(values: Uint8Array): number {
  let least = 255;
  for (const value of values) if (value < least) least = value;
  return least;
}

function readerOf(bytes: Uint8Array): { view: DataView; offset: number } {
  return { view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), offset: 0 };
}

/** Definition levels, where some are below `max`; null where all values are there. */
function definitionLevels(
  reader: { view: DataView; offset: number },
  max: number,
  count: number,
  bytes?: number,
): Uint8Array | null {
  // Where all values are there, writers store the levels as one run.
  const run = { view: reader.view, offset: reader.offset + (bytes === undefined ? 4 : 0) };
  if (max > 0 && run.offset < run.view.byteLength) {
    const header = readVarInt(run);
    const isRun = (header & 1) === 0 && header >>> 1 >= count && run.offset < run.view.byteLength;
    if (isRun && run.view.getUint8(run.offset) === max) {
      reader.offset += bytes ?? 4 + reader.view.getUint32(reader.offset, true);
      return null;
    }
  }
  const all = levels(reader, max, count, bytes);
  return all !== null && smallest(all) < max ? all : null;
}

/** Repetition or definition levels up to `max`, below 256; null where there is only level 0. */
function levels(
  reader: { view: DataView; offset: number },
  max: number,
  count: number,
  bytes?: number,
): Uint8Array | null {
  if (max === 0) return null;
  const out = new Uint8Array(count);
  readRleBitPackedHybrid(reader, 32 - Math.clz32(max), out, bytes);
  return out;
}

function lowerHalves(words: Uint8Array): Uint8Array {
  const from = new Uint16Array(words.buffer);
  const to = new Uint16Array(from.length / 2);
  for (let i = 0; i < to.length; i++) to[i] = from[2 * i]!;
  return new Uint8Array(to.buffer);
}
