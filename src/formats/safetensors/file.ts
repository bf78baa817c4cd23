/**
 * Safetensors files, read on demand and written as a stream: apart from the caller's arrays, at most one
 * chunk of a file is in memory. Little-endian machines only, like the whole project.
 *
 * Format: 8 bytes header length, JSON header, tensor data (https://github.com/huggingface/safetensors).
 */
import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { OrchestratorError } from '../../errors.js';
import { openForReading, readFully, writeFailure, writeFully } from '../../files/io.js';
import { convertToFloat32, DTYPE_BYTES, type Dtype, isFloat } from './dtype.js';
import type { SafetensorsHeader, TensorEntry } from './header.js';
import { elementsOf, encodeHeader, MAX_HEADER_BYTES, malformed, parseHeader, quoted } from './header.js';

export type { TensorEntry } from './header.js';

/**
 * Bytes that are hashed or converted at once: about half a millisecond, so the event loop is never blocked
 * for long.
 */
const CHUNK_BYTES = 1 << 20;

/** The tensors of one file, or of several files that belong together. */
export interface TensorSet {
  readonly path: string;
  /** Names of the safetensors files. */
  readonly files: readonly string[];
  /** Total bytes of the files. */
  readonly bytes: number;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  /** Reads a tensor as fp32, into an array of exactly its elements or a new one. */
  read(name: string, into?: Float32Array | null): Promise<Float32Array>;
  /** Fills `into` with elements as fp32, from element `first` on. */
  readElements(name: string, first: number, into: Float32Array): Promise<void>;
  /** Fills `into` with the tensor's bytes unchanged, from byte `first` on. */
  readBytes(name: string, first: number, into: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

/** One open safetensors file. */
export class SafetensorsFile implements TensorSet {
  readonly path: string;
  /** Size of the file. */
  readonly bytes: number;
  /** The tensors by name, in the order of the data. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly metadata: ReadonlyMap<string, string>;
  readonly #handle: FileHandle;
  /** Everything before the data: the length and the JSON. */
  readonly #header: Uint8Array;
  readonly #scratch = new Uint8Array(CHUNK_BYTES);

  private constructor(
    path: string,
    bytes: number,
    { tensors, metadata }: SafetensorsHeader,
    handle: FileHandle,
    header: Uint8Array,
  ) {
    this.path = path;
    this.bytes = bytes;
    this.tensors = tensors;
    this.metadata = metadata;
    this.#handle = handle;
    this.#header = header;
  }

  /**
   * Opens a file and checks its whole header.
   *
   * @throws OrchestratorError ERR_FILE_OPEN, ERR_SAFETENSORS: names the wrong tensor.
   */
  static async open(path: string): Promise<SafetensorsFile> {
    const { handle, size } = await openForReading(path);
    try {
      if (size < 8) throw malformed(path, `${size} bytes are too short for a safetensors file`);
      const prefix = new Uint8Array(8);
      await readFully(handle, prefix, 0, path);
      const length = new DataView(prefix.buffer).getBigUint64(0, true);
      if (length > BigInt(MAX_HEADER_BYTES) || length > BigInt(size - 8)) {
        throw malformed(
          path,
          `the file of ${size} bytes claims a header of ${length} bytes (at most ${MAX_HEADER_BYTES} are allowed); is it a safetensors file?`,
        );
      }
      const header = new Uint8Array(8 + Number(length));
      await readFully(handle, header, 0, path);
      const parsed = parseHeader(header.subarray(8), size - header.length, path);
      return new SafetensorsFile(path, size, parsed, handle, header);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  get files(): readonly string[] {
    return [this.path];
  }

  entry(name: string): TensorEntry {
    const entry = this.tensors.get(name);
    if (entry === undefined) throw malformed(this.path, `there is no tensor ${quoted(name)}`);
    return entry;
  }

  /**
   * Reads a tensor as fp32, converting from F16, BF16 and F64.
   *
   * @param into array of exactly the tensor's elements, or null to allocate one.
   * @throws OrchestratorError ERR_SAFETENSORS: the tensor is missing, of another length, or not of a float
   *   type.
   */
  async read(name: string, into: Float32Array | null = null): Promise<Float32Array> {
    const entry = this.entry(name);
    const target = into ?? new Float32Array(entry.elements);
    this.#checkLength(entry, target);
    await this.#copy(entry, 0, target, null);
    return target;
  }

  /**
   * Reads a range of a tensor's elements as fp32.
   *
   * @throws OrchestratorError ERR_SAFETENSORS: the tensor is missing, too short, or not of a float type.
   */
  async readElements(name: string, first: number, into: Float32Array): Promise<void> {
    const entry = this.entry(name);
    this.#checkRange(entry, first, into.length, entry.elements, 'elements');
    await this.#copy(entry, first, into, null);
  }

  /**
   * Reads a range of a tensor's bytes.
   *
   * @throws OrchestratorError ERR_SAFETENSORS: the tensor is missing or too short.
   */
  async readBytes(name: string, first: number, into: Uint8Array): Promise<void> {
    const entry = this.entry(name);
    this.#checkRange(entry, first, into.length, entry.end - entry.begin, 'bytes');
    await readFully(this.#handle, into, this.#header.length + entry.begin + first, this.path);
  }

  /**
   * Reads the whole file once, in order: fills the given arrays, skips the other tensors, and hashes
   * everything.
   *
   * @param targets arrays by tensor name, each of exactly its tensor's elements.
   * @returns the SHA-256 of the file, in hexadecimal.
   */
  async readAll(targets: ReadonlyMap<string, Float32Array>): Promise<string> {
    for (const [name, target] of targets) this.#checkLength(this.entry(name), target);
    const hash = createHash('sha256').update(this.#header);
    for (const entry of this.tensors.values()) {
      await this.#copy(entry, 0, targets.get(entry.name) ?? null, hash);
    }
    return hash.digest('hex');
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }

  #checkLength({ name, shape, elements }: TensorEntry, target: Float32Array): void {
    if (target.length === elements) return;
    throw malformed(
      this.path,
      `tensor ${quoted(name)} has the shape [${shape.join(', ')}]; expected ${target.length} elements`,
    );
  }

  #checkRange({ name }: TensorEntry, first: number, count: number, all: number, unit: string): void {
    if (Number.isInteger(first) && first >= 0 && first + count <= all) return;
    throw malformed(
      this.path,
      `tensor ${quoted(name)} has ${all} ${unit}; expected those from ${first} to ${first + count}`,
    );
  }

  /** @param target receives the elements from element `first` on; null skips the whole tensor. */
  async #copy(
    entry: TensorEntry,
    first: number,
    target: Float32Array | null,
    hash: Hash | null,
  ): Promise<void> {
    const { dtype } = entry;
    if (target !== null && !isFloat(dtype)) {
      throw malformed(
        this.path,
        `tensor ${quoted(entry.name)} is of type ${dtype}; expected F32, F16, BF16 or F64`,
      );
    }
    const width = DTYPE_BYTES[dtype];
    const start = this.#header.length + entry.begin + first * width;
    const length = target === null ? entry.end - entry.begin : target.length * width;
    for (let at = 0; at < length; at += CHUNK_BYTES) {
      const bytes = Math.min(CHUNK_BYTES, length - at);
      // fp32 is read directly into the target; other types go through the scratch chunk.
      const direct = target !== null && dtype === 'F32';
      const chunk = direct
        ? new Uint8Array(target.buffer, target.byteOffset + at, bytes)
        : this.#scratch.subarray(0, bytes);
      await readFully(this.#handle, chunk, start + at, this.path);
      hash?.update(chunk);
      if (target !== null && !direct && isFloat(dtype)) {
        convertToFloat32(dtype, chunk, target.subarray(at / width, (at + bytes) / width));
      }
    }
  }
}

/** A tensor's bytes, piece by piece; a piece may be overwritten when the next one is requested. */
export type TensorStream = () => AsyncIterable<ArrayBufferView>;

/** A tensor to write; `data` holds its elements, contiguous and little-endian, or produces them in order. */
export interface TensorSource {
  name: string;
  dtype: Dtype;
  shape: readonly number[];
  data: ArrayBufferView | TensorStream;
}

/** Bytes of a tensor in a file. */
export function sourceBytes({ shape, dtype }: Pick<TensorSource, 'shape' | 'dtype'>): number {
  return (elementsOf(shape) ?? Number.NaN) * DTYPE_BYTES[dtype];
}

export interface WrittenFile {
  bytes: number;
  /** SHA-256 of the whole file, in hexadecimal. */
  sha256: string;
}

/**
 * Writes a new file and flushes it to disk. Wider element types come first, so that every tensor is aligned
 * to its elements; otherwise the caller's order is kept.
 *
 * @param path must not exist.
 * @throws OrchestratorError ERR_FILE_WRITE: names the file and the system's reason; a partial file may
 *   remain.
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly TensorSource[],
  metadata: Readonly<Record<string, string>>,
): Promise<WrittenFile> {
  for (const tensor of tensors) {
    if (typeof tensor.data !== 'function') checkBytes(tensor, tensor.data.byteLength);
  }
  const ordered = [...tensors].sort((a, b) => DTYPE_BYTES[b.dtype] - DTYPE_BYTES[a.dtype]);
  const { header, dataBytes } = encodeHeader(ordered, metadata);
  let handle: FileHandle | null = null;
  try {
    handle = await open(path, 'wx', 0o644);
    const sha256 = await writeStream(handle, header, ordered);
    await handle.sync();
    return { bytes: header.length + dataBytes, sha256 };
  } catch (error) {
    throw writeFailure(path, error);
  } finally {
    await handle?.close().catch(() => {});
  }
}

/**
 * Writes header and data through one staging chunk, so that thousands of small tensors do not mean thousands
 * of writes.
 */
async function writeStream(
  handle: FileHandle,
  header: Uint8Array,
  tensors: readonly TensorSource[],
): Promise<string> {
  const hash = createHash('sha256');
  const staging = new Uint8Array(CHUNK_BYTES);
  let used = 0;
  let position = 0;
  const flush = async () => {
    const chunk = staging.subarray(0, used);
    hash.update(chunk);
    await writeFully(handle, chunk, position);
    position += used;
    used = 0;
  };
  const put = async ({ buffer, byteOffset, byteLength }: ArrayBufferView) => {
    for (let at = 0; at < byteLength; ) {
      const bytes = Math.min(CHUNK_BYTES - used, byteLength - at);
      staging.set(new Uint8Array(buffer, byteOffset + at, bytes), used);
      used += bytes;
      at += bytes;
      if (used === CHUNK_BYTES) await flush();
    }
  };
  await put(header);
  for (const tensor of tensors) {
    if (typeof tensor.data !== 'function') {
      await put(tensor.data);
      continue;
    }
    let bytes = 0;
    for await (const piece of tensor.data()) {
      bytes += piece.byteLength;
      await put(piece);
    }
    checkBytes(tensor, bytes);
  }
  if (used > 0) await flush();
  return hash.digest('hex');
}

function checkBytes(tensor: TensorSource, bytes: number): void {
  if (sourceBytes(tensor) === bytes) return;
  const { name, shape, dtype } = tensor;
  throw new OrchestratorError(
    'ERR_INTERNAL',
    `Tensor ${quoted(name)} of shape [${shape.join(', ')}] and type ${dtype} was given ${bytes} bytes`,
  );
}
