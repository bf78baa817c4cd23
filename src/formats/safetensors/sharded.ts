/** Safetensors split into several files, with an index that says which tensor is in which file. */
import { dirname, join } from 'node:path';
import { readWhole } from '../../files/io.js';
import { isMapping } from '../../files/json.js';
import { SafetensorsFile, type TensorSet } from './file.js';
import { malformed, quoted, type TensorEntry } from './header.js';

/** Limit for the index, the same as for a header. */
const MAX_INDEX_BYTES = 100_000_000;
const MAX_FILES = 10_000;
/** Problems listed in an error. */
const LISTED = 20;

/** The open files of an index. */
export class ShardedSafetensors implements TensorSet {
  /** Path of the index. */
  readonly path: string;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly #shards: readonly SafetensorsFile[];
  /** The file of each tensor. */
  readonly #places: ReadonlyMap<string, SafetensorsFile>;

  private constructor(
    path: string,
    shards: readonly SafetensorsFile[],
    places: ReadonlyMap<string, SafetensorsFile>,
  ) {
    this.path = path;
    this.tensors = new Map([...places].map(([name, shard]) => [name, shard.entry(name)]));
    this.#shards = shards;
    this.#places = places;
  }

  /**
   * Opens an index (`{"weight_map": {tensor: file}}`) and all its files, which are in the same folder.
   *
   * @throws OrchestratorError ERR_FILE_OPEN, ERR_SAFETENSORS: lists the differences between the index and the
   *   files.
   */
  static async open(path: string): Promise<ShardedSafetensors> {
    const map = parseIndex(await readIndex(path), path);
    const shards = new Map<string, SafetensorsFile>();
    try {
      for (const file of new Set(map.values())) {
        shards.set(file, await SafetensorsFile.open(join(dirname(path), file)));
      }
      checkIndex(map, shards, path);
      const places = new Map([...map].map(([name, file]) => [name, shards.get(file)!]));
      return new ShardedSafetensors(path, [...shards.values()], places);
    } catch (error) {
      for (const shard of shards.values()) await shard.close();
      throw error;
    }
  }

  get files(): readonly string[] {
    return this.#shards.map(({ path }) => path);
  }

  get bytes(): number {
    return this.#shards.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  async read(name: string, into: Float32Array | null = null): Promise<Float32Array> {
    return await this.#shard(name).read(name, into);
  }

  async readElements(name: string, first: number, into: Float32Array): Promise<void> {
    await this.#shard(name).readElements(name, first, into);
  }

  async readBytes(name: string, first: number, into: Uint8Array): Promise<void> {
    await this.#shard(name).readBytes(name, first, into);
  }

  async close(): Promise<void> {
    for (const shard of this.#shards) await shard.close();
  }

  #shard(name: string): SafetensorsFile {
    const shard = this.#places.get(name);
    if (shard === undefined) throw malformed(this.path, `there is no tensor ${quoted(name)}`);
    return shard;
  }
}

async function readIndex(path: string): Promise<string> {
  const tooLarge = (bytes: number) => malformed(path, `an index of ${bytes} bytes is too large`);
  return new TextDecoder().decode(await readWhole(path, MAX_INDEX_BYTES, tooLarge));
}

/** The file of each tensor. Files must be plain names, so that an index cannot lead outside its folder. */
function parseIndex(text: string, path: string): Map<string, string> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw malformed(path, `the index is not JSON: ${(error as Error).message}`);
  }
  const weightMap = isMapping(parsed) ? parsed.weight_map : undefined;
  if (!isMapping(weightMap)) throw malformed(path, 'the index has no "weight_map" from tensors to files');
  const map = new Map<string, string>();
  for (const [name, file] of Object.entries(weightMap)) {
    if (typeof file !== 'string' || !/^[^/\\\0]+\.safetensors$/.test(file)) {
      const found = JSON.stringify(file) ?? String(file);
      throw malformed(
        path,
        `tensor ${quoted(name)} is listed in ${found.slice(0, 200)}; expected the name of a .safetensors file in the index's folder`,
      );
    }
    map.set(name, file);
  }
  const files = new Set(map.values()).size;
  if (files === 0 || files > MAX_FILES) {
    throw malformed(path, `the index names ${files} files; expected 1 to ${MAX_FILES}`);
  }
  return map;
}

function checkIndex(
  map: ReadonlyMap<string, string>,
  shards: ReadonlyMap<string, SafetensorsFile>,
  path: string,
): void {
  const problems: string[] = [];
  for (const [name, file] of map) {
    if (!shards.get(file)?.tensors.has(name)) problems.push(`  ${quoted(name)} is not in ${file}`);
  }
  for (const [file, shard] of shards) {
    for (const name of shard.tensors.keys()) {
      if (map.get(name) !== file) problems.push(`  ${quoted(name)} of ${file} is not in the index`);
    }
  }
  if (problems.length === 0) return;
  const more = problems.length > LISTED ? [`  and ${problems.length - LISTED} more`] : [];
  const list = [...problems.slice(0, LISTED), ...more].join('\n');
  throw malformed(path, `the index and its files disagree about ${problems.length} tensors\n${list}`);
}
