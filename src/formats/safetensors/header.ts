/**
 * The header of a safetensors file: JSON that says where each tensor is. It is untrusted input, so it is read
 * by a parser that accepts only the one valid structure, refuses duplicate keys (JSON.parse silently keeps
 * the last one), and checks every number against the file's size before using it.
 */
import { OrchestratorError } from '../../errors.js';
import { DTYPE_BYTES, type Dtype, isDtype } from './dtype.js';

/** The format's own limit for the header. */
export const MAX_HEADER_BYTES = 100_000_000;
const MAX_NAME_LENGTH = 4096;
const MAX_RANK = 16;

/** A tensor of a file. */
export interface TensorEntry {
  name: string;
  dtype: Dtype;
  shape: number[];
  /** Product of the shape. */
  elements: number;
  /** Bytes [begin, end) of the data section. */
  begin: number;
  end: number;
}

export interface SafetensorsHeader {
  /** The tensors by name, in the order of the data. */
  tensors: Map<string, TensorEntry>;
  metadata: Map<string, string>;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** A cursor over the header's text. */
class Cursor {
  readonly #text: string;
  readonly #path: string;
  #at = 0;

  constructor(text: string, path: string) {
    this.#text = text;
    this.#path = path;
  }

  fail(what: string): never {
    throw malformed(this.#path, `${what} at character ${this.#at} of the header`);
  }

  #skipSpace(): void {
    for (;;) {
      const code = this.#text.charCodeAt(this.#at);
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return;
      this.#at++;
    }
  }

  /** Whether the next token is this punctuation, which is then consumed. */
  take(token: string): boolean {
    this.#skipSpace();
    if (this.#text[this.#at] !== token) return false;
    this.#at++;
    return true;
  }

  expect(token: string): void {
    if (!this.take(token)) this.fail(`expected "${token}"`);
  }

  end(): void {
    this.#skipSpace();
    if (this.#at !== this.#text.length) this.fail('expected the end of the header');
  }

  string(what: string, maxLength: number): string {
    this.expect('"');
    const start = this.#at;
    let escaped = false;
    for (;;) {
      const code = this.#text.charCodeAt(this.#at);
      if (Number.isNaN(code)) this.fail(`the ${what} has no closing quote`);
      if (code < 0x20) this.fail(`the ${what} holds a control character`);
      if (code === QUOTE) break;
      if (code === BACKSLASH) {
        escaped = true;
        this.#at++;
      }
      this.#at++;
    }
    if (this.#at - start > maxLength) this.fail(`the ${what} is longer than ${maxLength} characters`);
    const raw = this.#text.slice(start, this.#at);
    this.#at++;
    if (!escaped) return raw;
    try {
      return JSON.parse(`"${raw}"`);
    } catch {
      return this.fail(`the ${what} has a bad escape`);
    }
  }

  integer(what: string): number {
    this.#skipSpace();
    const start = this.#at;
    while (this.#text.charCodeAt(this.#at) >= 0x30 && this.#text.charCodeAt(this.#at) <= 0x39) this.#at++;
    const digits = this.#text.slice(start, Math.min(this.#at, start + 17));
    const value = Number(digits);
    if (digits === '' || (digits.length > 1 && digits[0] === '0') || !Number.isSafeInteger(value)) {
      this.fail(`the ${what} is not an integer from 0 to 2^53 - 1`);
    }
    return value;
  }

  integers(what: string, maxCount: number): number[] {
    this.expect('[');
    const values: number[] = [];
    if (this.take(']')) return values;
    do {
      if (values.length === maxCount) this.fail(`the ${what} has more than ${maxCount} entries`);
      values.push(this.integer(what));
    } while (this.take(','));
    this.expect(']');
    return values;
  }

  /** Reads an object; `member` reads the value of each key. */
  object(what: string, maxKeyLength: number, member: (key: string) => void): void {
    this.expect('{');
    if (this.take('}')) return;
    do {
      const key = this.string(`key of ${what}`, maxKeyLength);
      this.expect(':');
      member(key);
    } while (this.take(','));
    this.expect('}');
  }
}

export function malformed(path: string, what: string): OrchestratorError {
  return new OrchestratorError('ERR_SAFETENSORS', `${path}: ${what}`);
}

/** A name from the file, quoted for messages: shortened if it is long, with control characters escaped. */
export function quoted(name: string): string {
  return JSON.stringify(name.length > 200 ? `${name.slice(0, 200)}...` : name);
}

/** The product of a shape, or null where it exceeds 2^53 - 1. */
export function elementsOf(shape: readonly number[]): number | null {
  let elements = 1;
  for (const side of shape) {
    if (side !== 0 && elements > Number.MAX_SAFE_INTEGER / side) return null;
    elements *= side;
  }
  return elements;
}

function readEntry(cursor: Cursor, name: string): TensorEntry {
  let dtype: string | null = null;
  let shape: number[] | null = null;
  let offsets: number[] | null = null;
  const label = quoted(name);
  cursor.object(`tensor ${label}`, 64, (key) => {
    if (key === 'dtype' && dtype === null) dtype = cursor.string(`dtype of ${label}`, 32);
    else if (key === 'shape' && shape === null) shape = cursor.integers(`shape of ${label}`, MAX_RANK);
    else if (key === 'data_offsets' && offsets === null)
      offsets = cursor.integers(`data_offsets of ${label}`, 2);
    else cursor.fail(`unexpected or repeated key ${quoted(key)} in tensor ${label}`);
  });
  if (dtype === null || shape === null || offsets === null) {
    return cursor.fail(`tensor ${label} lacks dtype, shape or data_offsets`);
  }
  return checkedEntry(cursor, name, dtype, shape, offsets);
}

function checkedEntry(
  cursor: Cursor,
  name: string,
  dtype: string,
  shape: number[],
  offsets: number[],
): TensorEntry {
  const label = quoted(name);
  if (!isDtype(dtype)) return cursor.fail(`tensor ${label} has the unknown dtype ${quoted(dtype)}`);
  const elements = elementsOf(shape);
  const bytes = elements === null ? null : elementsOf([elements, DTYPE_BYTES[dtype]]);
  if (elements === null || bytes === null) {
    return cursor.fail(`the shape [${shape.join(', ')}] of tensor ${label} overflows`);
  }
  const [begin, end] = offsets;
  if (begin === undefined || end === undefined || end < begin) {
    return cursor.fail(`data_offsets [${offsets.join(', ')}] of tensor ${label} are not a range`);
  }
  if (end - begin !== bytes) {
    return cursor.fail(
      `tensor ${label} of shape [${shape.join(', ')}] and type ${dtype} takes ${bytes} bytes, but data_offsets [${begin}, ${end}] hold ${end - begin}`,
    );
  }
  return { name, dtype, shape, elements, begin, end };
}

/**
 * Parses and checks a header.
 *
 * @param text bytes of the header, including padding.
 * @param dataBytes bytes of the file after the header. The tensors must cover them exactly, in any order,
 *   without overlap.
 * @throws OrchestratorError ERR_SAFETENSORS: names the file and the tensor.
 */
export function parseHeader(text: Uint8Array, dataBytes: number, path: string): SafetensorsHeader {
  let decoded: string;
  try {
    decoded = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(text);
  } catch {
    throw malformed(path, 'the header is not UTF-8');
  }
  if (decoded[0] !== '{')
    throw malformed(path, 'the header does not begin with "{"; is it a safetensors file?');
  const cursor = new Cursor(decoded, path);
  const entries = new Map<string, TensorEntry>();
  const metadata = new Map<string, string>();
  let hasMetadata = false;
  cursor.object('the header', MAX_NAME_LENGTH, (name) => {
    if (name === '__metadata__') {
      if (hasMetadata) cursor.fail('a second __metadata__');
      hasMetadata = true;
      cursor.object('__metadata__', MAX_NAME_LENGTH, (key) => {
        if (metadata.has(key)) cursor.fail(`repeated key ${quoted(key)} in __metadata__`);
        metadata.set(key, cursor.string(`value of ${quoted(key)} in __metadata__`, MAX_HEADER_BYTES));
      });
      return;
    }
    if (entries.has(name)) cursor.fail(`a second tensor named ${quoted(name)}`);
    entries.set(name, readEntry(cursor, name));
  });
  cursor.end();
  return { tensors: contiguous(entries, dataBytes, path), metadata };
}

/** The entries in the order of the data, which they must cover without overlaps, gaps or trailing bytes. */
function contiguous(
  entries: Map<string, TensorEntry>,
  dataBytes: number,
  path: string,
): Map<string, TensorEntry> {
  const sorted = [...entries.values()].sort((a, b) => a.begin - b.begin || a.end - b.end);
  let at = 0;
  let before = 'the header';
  for (const entry of sorted) {
    const label = quoted(entry.name);
    if (entry.end > dataBytes) {
      throw malformed(
        path,
        `tensor ${label} ends at byte ${entry.end} of the data, which has ${dataBytes} bytes`,
      );
    }
    if (entry.begin < at) throw malformed(path, `tensor ${label} overlaps tensor ${before}`);
    if (entry.begin > at) {
      throw malformed(
        path,
        `${entry.begin - at} bytes between ${before} and tensor ${label} belong to no tensor`,
      );
    }
    at = entry.end;
    before = label;
  }
  if (at !== dataBytes)
    throw malformed(path, `${dataBytes - at} bytes after the last tensor belong to no tensor`);
  return new Map(sorted.map((entry) => [entry.name, entry]));
}

/**
 * Encodes the bytes before the data: the length, the JSON, and spaces so that the data begins at a multiple
 * of 64.
 *
 * @param tensors in the order in which the data will be written.
 */
export function encodeHeader(
  tensors: readonly { name: string; dtype: Dtype; shape: readonly number[] }[],
  metadata: Readonly<Record<string, string>>,
): { header: Uint8Array; dataBytes: number } {
  // The members are a list, because an object would reorder names that look like integers, and lose
  // "__proto__".
  const members: string[] = [];
  if (Object.keys(metadata).length > 0) members.push(`"__metadata__":${JSON.stringify(metadata)}`);
  const names = new Set<string>(['__metadata__']);
  let at = 0;
  for (const { name, dtype, shape } of tensors) {
    const elements = elementsOf(shape);
    if (names.has(name) || elements === null) {
      throw new OrchestratorError(
        'ERR_INTERNAL',
        `Tensor ${quoted(name)} [${shape.join(', ')}] cannot be written: its name is already used, or its shape overflows`,
      );
    }
    names.add(name);
    const end = at + elements * DTYPE_BYTES[dtype];
    members.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [at, end] })}`);
    at = end;
  }
  const json = Buffer.from(`{${members.join(',')}}`);
  const total = Math.ceil((8 + json.length) / 64) * 64;
  const header = Buffer.alloc(total, ' ');
  header.writeBigUInt64LE(BigInt(total - 8), 0);
  header.set(json, 8);
  return { header, dataBytes: at };
}
