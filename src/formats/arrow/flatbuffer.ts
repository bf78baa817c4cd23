/**
 * A reader of FlatBuffers (tables, vectors, strings) that checks every offset and length against the bytes it
 * has. Arrow's metadata has this encoding, and comes from untrusted files.
 */
import { OrchestratorError } from '../../errors.js';

/**
 * Largest number of tables in a vector. All entries may point to the same table, so the number of bytes alone
 * does not bound the work.
 */
const MAX_TABLES = 10_000;

/** A table at an absolute position; a field is found by its number in the schema. */
export class FlatTable {
  readonly #bytes: Buffer;
  readonly #position: number;
  readonly #vtable: number;
  /** The file and message, for errors. */
  readonly #where: string;

  private constructor(bytes: Buffer, position: number, where: string) {
    this.#bytes = bytes;
    this.#position = position;
    this.#where = where;
    this.#vtable = position - this.#inside(position, 4).readInt32LE(position);
    if (this.#uint(this.#vtable, 2) < 4) throw malformed(where);
  }

  static root(bytes: Buffer, where: string): FlatTable {
    if (bytes.length < 4) throw malformed(where);
    return new FlatTable(bytes, bytes.readUInt32LE(0), where);
  }

  /** A signed integer, or 0 where the table does not have it. */
  int(number: number, bytes: 1 | 2 | 4): number {
    const at = this.#field(number);
    return at ? this.#inside(at, bytes).readIntLE(at, bytes) : 0;
  }

  /** A 64-bit length or offset; 0 where the table does not have it. */
  size64(number: number): number {
    const at = this.#field(number);
    return at ? this.#size64At(at) : 0;
  }

  table(number: number): FlatTable | null {
    const at = this.#field(number);
    return at ? this.#tableAt(at) : null;
  }

  string(number: number): string {
    const { start, length } = this.#vector(number, 1);
    return this.#bytes.toString('utf8', start, start + length);
  }

  /** A vector of at most MAX_TABLES tables. */
  tables(number: number): FlatTable[] {
    const { start, length } = this.#vector(number, 4);
    if (length > MAX_TABLES) throw malformed(this.#where);
    return Array.from({ length }, (_, i) => this.#tableAt(start + 4 * i));
  }

  /** A vector of structs of two 64-bit lengths or offsets, one after the other. */
  pairs(number: number): number[] {
    const { start, length } = this.#vector(number, 16);
    // Plain, because a file may have a batch per row, and typed arrays take several times as long to make.
    const values = new Array<number>(2 * length);
    for (let i = 0; i < values.length; i++) values[i] = this.#size64At(start + 8 * i);
    return values;
  }

  /** A vector of structs of `bytes` bytes; `read` receives a reader of a 64-bit field at a byte offset. */
  structs<T>(number: number, bytes: number, read: (size64: (offset: number) => number) => T): T[] {
    const { start, length } = this.#vector(number, bytes);
    return Array.from({ length }, (_, i) => read((offset) => this.#size64At(start + bytes * i + offset)));
  }

  /** Absolute position of a field, or 0 where the table does not have it. */
  #field(number: number): number {
    const slot = 4 + 2 * number;
    if (slot + 2 > this.#uint(this.#vtable, 2)) return 0;
    const offset = this.#uint(this.#vtable + slot, 2);
    return offset && this.#position + offset;
  }

  /** An empty one where the table does not have it. */
  #vector(number: number, elementBytes: number): { start: number; length: number } {
    const at = this.#field(number);
    if (!at) return { start: 0, length: 0 };
    const header = at + this.#uint(at, 4);
    const length = this.#uint(header, 4);
    this.#inside(header + 4, length * elementBytes);
    return { start: header + 4, length };
  }

  #tableAt(at: number): FlatTable {
    return new FlatTable(this.#bytes, at + this.#uint(at, 4), this.#where);
  }

  #uint(at: number, bytes: 2 | 4): number {
    return this.#inside(at, bytes).readUIntLE(at, bytes);
  }

  /** Negative values and those beyond 2^53 are malformed wherever Arrow has 64 bits. */
  #size64At(at: number): number {
    // Two halves, because a bigint for each of a million offsets takes seconds.
    const value = this.#uint(at, 4) + this.#inside(at, 8).readUInt32LE(at + 4) * 2 ** 32;
    if (value > Number.MAX_SAFE_INTEGER) throw malformed(this.#where);
    return value;
  }

  #inside(at: number, bytes: number): Buffer {
    if (at < 0 || at + bytes > this.#bytes.length) throw malformed(this.#where);
    return this.#bytes;
  }
}

/** The error for metadata that contradicts itself or the format; `where` is the file and a place in it. */
export function malformed(where: string, what = 'the metadata is malformed'): OrchestratorError {
  return new OrchestratorError('ERR_DATA_FORMAT', `${where}: ${what}`);
}
