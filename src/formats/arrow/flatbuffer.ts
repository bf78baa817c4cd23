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
  readonly #view: DataView;
  readonly #position: number;
  readonly #vtable: number;
  readonly #vtableBytes: number;
  /** The file and message, for errors. */
  readonly #where: string;

  private constructor(view: DataView, position: number, where: string) {
    this.#view = view;
    this.#position = position;
    this.#where = where;
    const inside = (at: number, bytes: number) => at >= 0 && at + bytes <= view.byteLength;
    if (!inside(position, 4)) throw malformed(where);
    this.#vtable = position - view.getInt32(position, true);
    if (!inside(this.#vtable, 4)) throw malformed(where);
    this.#vtableBytes = view.getUint16(this.#vtable, true);
    if (this.#vtableBytes < 4 || !inside(this.#vtable, this.#vtableBytes)) throw malformed(where);
  }

  static root(bytes: Uint8Array, where: string): FlatTable {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (view.byteLength < 4) throw malformed(where);
    return new FlatTable(view, view.getUint32(0, true), where);
  }

  /** Absolute position of a field of `bytes` bytes, or 0 where the table does not have it. */
  #field(number: number, bytes: number): number {
    const slot = 4 + 2 * number;
    if (slot + 2 > this.#vtableBytes) return 0;
    const offset = this.#view.getUint16(this.#vtable + slot, true);
    if (offset === 0) return 0;
    if (this.#position + offset + bytes > this.#view.byteLength) throw malformed(this.#where);
    return this.#position + offset;
  }

  uint8(number: number): number {
    const at = this.#field(number, 1);
    return at ? this.#view.getUint8(at) : 0;
  }

  int16(number: number): number {
    const at = this.#field(number, 2);
    return at ? this.#view.getInt16(at, true) : 0;
  }

  int32(number: number): number {
    const at = this.#field(number, 4);
    return at ? this.#view.getInt32(at, true) : 0;
  }

  /**
   * A 64-bit length or offset. Negative values and those beyond 2^53 are malformed wherever Arrow has them.
   */
  size64(number: number): number {
    const at = this.#field(number, 8);
    return at ? this.#safe(at) : 0;
  }

  table(number: number): FlatTable | null {
    const at = this.#field(number, 4);
    return at ? this.#tableAt(at) : null;
  }

  string(number: number): string | null {
    const vector = this.#vector(number, 1);
    if (!vector) return null;
    const bytes = new Uint8Array(this.#view.buffer, this.#view.byteOffset + vector.start, vector.length);
    return new TextDecoder().decode(bytes);
  }

  /** A vector of at most MAX_TABLES tables. */
  tables(number: number): FlatTable[] {
    const vector = this.#vector(number, 4);
    if (!vector) return [];
    if (vector.length > MAX_TABLES) throw malformed(this.#where);
    return Array.from({ length: vector.length }, (_, i) => this.#tableAt(vector.start + 4 * i));
  }

  /** A vector of structs of `bytes` bytes; `read` receives a reader of a 64-bit field at a byte offset. */
  structs<T>(number: number, bytes: number, read: (size64: (offset: number) => number) => T): T[] {
    const vector = this.#vector(number, bytes);
    if (!vector) return [];
    return Array.from({ length: vector.length }, (_, i) =>
      read((offset) => this.#safe(vector.start + bytes * i + offset)),
    );
  }

  #tableAt(at: number): FlatTable {
    return new FlatTable(this.#view, this.#follow(at), this.#where);
  }

  #follow(at: number): number {
    return at + this.#view.getUint32(at, true);
  }

  #vector(number: number, elementBytes: number): { start: number; length: number } | null {
    const at = this.#field(number, 4);
    if (!at) return null;
    const header = this.#follow(at);
    if (header + 4 > this.#view.byteLength) throw malformed(this.#where);
    const length = this.#view.getUint32(header, true);
    if (header + 4 + length * elementBytes > this.#view.byteLength) throw malformed(this.#where);
    return { start: header + 4, length };
  }

  #safe(at: number): number {
    const value = this.#view.getBigInt64(at, true);
    if (value < 0n || value > BigInt(Number.MAX_SAFE_INTEGER)) throw malformed(this.#where);
    return Number(value);
  }
}

/** The error for metadata that contradicts itself or the format; `where` is the file and a place in it. */
export function malformed(where: string, what = 'the metadata is malformed'): OrchestratorError {
  return new OrchestratorError('ERR_DATA_FORMAT', `${where}: ${what}`);
}
