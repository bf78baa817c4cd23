/**
 * The header of a safetensors file: JSON that says where each tensor is. It is untrusted input: every number
 * is checked against the file's size before it is used.
 */
import { z } from 'zod';
import { OrchestratorError } from '../../errors.js';
import { isMapping, type Mapping } from '../../files/json.js';
import { DTYPE_BYTES, type Dtype, isDtype, isFloat } from './dtype.js';

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

const entrySchema = z.strictObject({
  dtype: z.string(),
  shape: z.array(z.int().min(0)).max(MAX_RANK),
  data_offsets: z.tuple([z.int().min(0), z.int().min(0)]),
});

export function malformed(path: string, what: string): OrchestratorError {
  return new OrchestratorError('ERR_SAFETENSORS', `${path}: ${what}`);
}

/** A name from the file, quoted for messages: shortened if it is long, with control characters escaped. */
export function quoted(name: string): string {
  return JSON.stringify(name.length > 200 ? `${name.slice(0, 200)}...` : name);
}

/** Refuses a tensor of a type that cannot be converted to fp32. */
export function requireFloat({ name, dtype }: TensorEntry, path: string): void {
  if (isFloat(dtype)) return;
  throw malformed(
    path,
    `tensor ${quoted(name)} is of type ${dtype}; expected F32, F16, BF16, F64 or an F8 type`,
  );
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

/**
 * Refuses what JSON.parse lets pass: a repeated name, of which it keeps the last value, and numbers with a
 * sign, a fraction or an exponent.
 */
function checkTokens(text: string, path: string): void {
  const scopes: Set<string>[] = [];
  let string = '';
  let begin: number | null = null;
  // Escapes are tokens of their own: an expression for a whole string overflows the stack where it has many.
  for (const { 0: token, index } of text.matchAll(/\\.|["{}]|[^"{}\\]+/gs)) {
    if (token === '"') {
      if (begin !== null) string = text.slice(begin, index + 1);
      begin = begin === null ? index : null;
    } else if (begin !== null) continue;
    else if (token === '{') scopes.push(new Set());
    else if (token === '}') scopes.pop();
    else {
      const other = /[^\s\d,:[\]]/.exec(token);
      if (other !== null) throw malformed(path, `the header holds ${quoted(other[0])} outside of a string`);
      if (!/^\s*:/.test(token)) continue;
      const name: string = JSON.parse(string);
      if (scopes.at(-1)?.has(name)) throw malformed(path, `the header names ${quoted(name)} twice`);
      scopes.at(-1)?.add(name);
    }
  }
}

/** The JSON of a header's text. */
function parseJson(bytes: Uint8Array, path: string): Mapping {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw malformed(path, 'the header is not UTF-8');
  }
  if (text[0] !== '{') {
    throw malformed(path, 'the header does not begin with "{"; is it a safetensors file?');
  }
  try {
    checkTokens(text, path);
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof OrchestratorError) throw error;
    throw malformed(path, `the header is not JSON: ${quoted((error as Error).message)}`);
  }
}

function parseEntry(name: string, value: unknown, path: string): TensorEntry {
  const label = `tensor ${quoted(name)}`;
  const parsed = entrySchema.safeParse(value);
  if (!parsed.success) {
    const problems = parsed.error.issues.map((issue) =>
      issue.code === 'unrecognized_keys'
        ? `unknown key ${quoted(issue.keys[0]!)}`
        : [...issue.path, issue.message].join(': '),
    );
    throw malformed(path, `${label}: ${problems.join('; ')}`);
  }
  const { dtype, shape, data_offsets } = parsed.data;
  const [begin, end] = data_offsets;
  if (name.length > MAX_NAME_LENGTH)
    throw malformed(path, `the name ${quoted(name)} is longer than ${MAX_NAME_LENGTH} characters`);
  if (!isDtype(dtype)) throw malformed(path, `${label} has the unknown dtype ${quoted(dtype)}`);
  const elements = elementsOf(shape);
  const bytes = elements === null ? null : elementsOf([elements, DTYPE_BYTES[dtype]]);
  if (bytes !== null && !Number.isInteger(bytes)) {
    const what = `of ${elements} elements of type ${dtype} does not fill whole bytes`;
    throw malformed(path, `the shape [${shape.join(', ')}] of ${label} ${what}`);
  }
  if (elements === null || bytes === null) {
    throw malformed(path, `the shape [${shape.join(', ')}] of ${label} overflows`);
  }
  if (end - begin !== bytes) {
    throw malformed(
      path,
      `${label} of shape [${shape.join(', ')}] and type ${dtype} takes ${bytes} bytes, but data_offsets [${begin}, ${end}] hold ${end - begin}`,
    );
  }
  return { name, dtype, shape, elements, begin, end };
}

/**
 * Parses and checks a header. Its tensors are in the order of the data.
 *
 * @param text bytes of the header, including padding.
 * @param dataBytes bytes of the file after the header. The tensors must cover them exactly, in any order,
 *   without overlap.
 */
export function parseHeader(text: Uint8Array, dataBytes: number, path: string) {
  const metadata = new Map<string, string>();
  const entries: TensorEntry[] = [];
  for (const [name, value] of Object.entries(parseJson(text, path))) {
    if (name !== '__metadata__') {
      entries.push(parseEntry(name, value, path));
      continue;
    }
    if (!isMapping(value)) throw malformed(path, '__metadata__ is not a mapping of names to texts');
    for (const [key, item] of Object.entries(value)) {
      if (typeof item !== 'string') throw malformed(path, `${quoted(key)} in __metadata__ is not a text`);
      metadata.set(key, item);
    }
  }
  return { tensors: contiguous(entries, dataBytes, path), metadata };
}

/** The entries in the order of the data, which they must cover without overlaps, gaps or trailing bytes. */
function contiguous(
  entries: readonly TensorEntry[],
  dataBytes: number,
  path: string,
): Map<string, TensorEntry> {
  const sorted = [...entries].sort((a, b) => a.begin - b.begin || a.end - b.end);
  let at = 0;
  let before = 'the header';
  for (const { name, begin, end } of sorted) {
    const label = `tensor ${quoted(name)}`;
    if (end > dataBytes) {
      throw malformed(path, `${label} ends at byte ${end} of the data, which has ${dataBytes} bytes`);
    }
    if (begin < at) throw malformed(path, `${label} overlaps ${before}`);
    if (begin > at)
      throw malformed(path, `${begin - at} bytes between ${before} and ${label} belong to no tensor`);
    at = end;
    before = label;
  }
  if (at === dataBytes) return new Map(sorted.map((entry) => [entry.name, entry]));
  throw malformed(path, `${dataBytes - at} bytes after the last tensor belong to no tensor`);
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
