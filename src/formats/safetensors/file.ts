/**
 * Safetensors, read on demand: apart from the caller's arrays, at most one chunk of a file is in memory.
 * Little-endian machines only, like the whole project.
 */
import { createHash, type Hash } from 'node:crypto';
import { CHUNK_BYTES } from '../../files/hash.js';
import { readEach, readFully } from '../../files/io.js';
import { convertToFloat32, DTYPE_BYTES, isFloat } from './dtype.js';
import { malformed, quoted, requireFloat, type TensorEntry } from './header.js';
import { type OpenFile, openFile } from './open.js';
import { isIndex, openIndex } from './shard-index.js';

/** The tensors of one file, or of the files of an index. */
export class Safetensors {
  /** Path of the file, or of the index. */
  readonly path: string;
  /** One file's are in the order of the data, an index's in its own. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly #files: ReadonlySet<OpenFile>;
  /** The file of each tensor. */
  readonly #places: ReadonlyMap<string, OpenFile>;
  readonly #scratch = [new Uint8Array(CHUNK_BYTES), new Uint8Array(CHUNK_BYTES)];

  private constructor(path: string, files: Iterable<OpenFile>, places: ReadonlyMap<string, OpenFile>) {
    this.path = path;
    this.#files = new Set(files);
    this.#places = places;
    this.tensors = new Map([...places].map(([name, file]) => [name, file.tensors.get(name)!]));
  }

  /** Opens a file, or an index and all its files, and checks the headers. */
  static async open(path: string): Promise<Safetensors> {
    if (isIndex(path)) {
      const places = await openIndex(path);
      return new Safetensors(path, places.values(), places);
    }
    const file = await openFile(path);
    return new Safetensors(path, [file], new Map([...file.tensors.keys()].map((name) => [name, file])));
  }

  /** Paths of the files. */
  get files(): string[] {
    return [...this.#files].map(({ path }) => path);
  }

  /** Size of the files together. */
  get bytes(): number {
    return [...this.#files].reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** The metadata of all headers. */
  get metadata(): ReadonlyMap<string, string> {
    return new Map([...this.#files].flatMap(({ metadata }) => [...metadata]));
  }

  entry(name: string): TensorEntry {
    const entry = this.tensors.get(name);
    if (entry === undefined) throw malformed(this.path, `there is no tensor ${quoted(name)}`);
    return entry;
  }

  /** Reads a tensor as fp32, converting from the other types of floats. */
  async read(name: string): Promise<Float32Array> {
    const into = new Float32Array(this.entry(name).elements);
    await this.readElements(name, 0, into);
    return into;
  }

  /** Reads a range of a tensor's elements as fp32. */
  async readElements(name: string, first: number, into: Float32Array): Promise<void> {
    const entry = this.entry(name);
    this.#checkRange(entry, first, into.length, entry.elements, 'elements');
    await this.#copy(entry, first, into, null);
  }

  /** Reads a range of a tensor's bytes. */
  async readBytes(name: string, first: number, into: Uint8Array): Promise<void> {
    const entry = this.entry(name);
    this.#checkRange(entry, first, into.length, entry.end - entry.begin, 'bytes');
    const { handle, head, path } = this.#places.get(name)!;
    await readFully(handle, into, head.length + entry.begin + first, path);
  }

  /**
   * Reads the whole file once, in order: fills the given arrays, skips the other tensors, and hashes
   * everything.
   *
   * @param targets arrays by tensor name, each of exactly its tensor's elements.
   * @returns the SHA-256 of the file, or of an index's files one after another, in hexadecimal.
   */
  async readAll(targets: ReadonlyMap<string, Float32Array>): Promise<string> {
    for (const [name, target] of targets) {
      const { shape, elements } = this.entry(name);
      if (target.length === elements) continue;
      const found = `tensor ${quoted(name)} has the shape [${shape.join(', ')}]`;
      throw malformed(this.path, `${found}; expected ${target.length} elements`);
    }
    const hash = createHash('sha256');
    for (const { head, tensors } of this.#files) {
      hash.update(head);
      for (const entry of tensors.values()) {
        await this.#copy(entry, 0, targets.get(entry.name) ?? null, hash);
      }
    }
    return hash.digest('hex');
  }

  async close(): Promise<void> {
    for (const { handle } of this.#files) await handle.close();
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
    const { handle, head, path } = this.#places.get(entry.name)!;
    if (target !== null) requireFloat(entry, path);
    const width = DTYPE_BYTES[dtype];
    const start = head.length + entry.begin + first * width;
    const length = target === null ? entry.end - entry.begin : target.length * width;
    // fp32 is read directly into the target; other types go through scratch chunks, which take turns.
    const direct = target !== null && dtype === 'F32';
    const scratch = this.#scratch;
    const pieces = function* () {
      for (let at = 0, turn = 0; at < length; at += CHUNK_BYTES, turn ^= 1) {
        const bytes = Math.min(CHUNK_BYTES, length - at);
        const into = direct
          ? new Uint8Array(target.buffer, target.byteOffset + at, bytes)
          : scratch[turn]!.subarray(0, bytes);
        yield { position: start + at, into };
      }
    };
    let done = 0;
    await readEach(handle, pieces(), path, (chunk) => {
      hash?.update(chunk);
      if (target !== null && !direct && isFloat(dtype)) {
        convertToFloat32(dtype, chunk, target.subarray(done / width, (done + chunk.length) / width));
      }
      done += chunk.length;
    });
  }
}
