/**
 * Converts Parquet files to shards, which can be mapped: row group by row group, so that an interrupted
 * conversion goes on where it was. The folder gets its name when it is complete and on disk.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { z } from 'zod';
import { OrchestratorError } from '../errors.js';
import { makeFolders, replaceFile, syncFolder, writeDurably, writeFailure } from '../files/io.js';
import { canonicalJson, readJson } from '../files/json.js';
import { FileReader } from '../files/reader.js';
import { ColumnCursor } from '../formats/parquet/cursor.js';
import { keyOf, type ParquetColumn, type ParquetFile, readParquet } from '../formats/parquet/file.js';
import { lockFile } from '../native/lock.js';
import {
  columnSchema,
  MANIFEST_FILE,
  type Manifest,
  type ManifestColumn,
  type Shard,
  shardSchema,
} from './manifest.js';
import { parquetFiles } from './parquet-files.js';
import { type ColumnBuffer, checksums, shardBytes } from './writer.js';

/** Values of a shard; it is built in memory. */
const SHARD_BYTES = 64 * 2 ** 20;
const PROGRESS_FILE = 'progress.json';

interface Conversion {
  /** A Parquet file, or a folder of them. */
  source: string;
  /** Folder to create. */
  out: string;
  /** Columns that are not kept. */
  leaveOut: readonly string[];
  progress: ((rows: number, total: number) => void) | null;
}

/** What a conversion has done, in its folder. */
const stateSchema = z.object({
  /** What is converted, and how: another conversion begins from the start. */
  of: z.string(),
  columns: z.array(columnSchema),
  shards: z.array(shardSchema),
});
type State = z.infer<typeof stateSchema>;

/** Converts; returns the manifest, and the columns of other types, which are not kept. */
export async function convertParquet(conversion: Conversion) {
  const { source, out, leaveOut } = conversion;
  const target = resolve(out);
  if (existsSync(target) && !(statSync(target).isDirectory() && readdirSync(target).length === 0)) {
    throw new OrchestratorError(
      'ERR_FILE_WRITE',
      `${out} exists and is not empty`,
      'Choose another folder for --out',
    );
  }
  const files = parquetFiles(source).map(readParquet);
  if (files.length === 0) {
    throw new OrchestratorError(
      'ERR_FILE_OPEN',
      `There is no Parquet file at ${resolve(source)}`,
      'Give a file, or the folder that holds the files of one split, named *.parquet',
    );
  }
  const columns = columnsOf(files, leaveOut);
  const work = join(dirname(target), `.${basename(target)}.converting`);
  await makeFolders(work);
  const unlock = lockFile(join(work, 'lock'));
  let manifest: Manifest;
  try {
    manifest = await convertInto(work, files, columns, conversion);
  } finally {
    unlock();
  }
  try {
    await rm(join(work, PROGRESS_FILE), { force: true });
    await syncFolder(work);
    await rename(work, target);
    await syncFolder(dirname(target));
  } catch (error) {
    throw writeFailure(out, error);
  }
  return { manifest, others: files[0]!.others };
}

/** The columns that are kept, which all files must have alike. */
function columnsOf(files: readonly ParquetFile[], leaveOut: readonly string[]): ParquetColumn[] {
  const [first, ...rest] = files as [ParquetFile, ...ParquetFile[]];
  for (const name of leaveOut) {
    if ([...first.columns, ...first.others].some((column) => column.name === name)) continue;
    const names = first.columns.map((column) => column.name).join(', ');
    throw new OrchestratorError('ERR_DATA_COLUMN', `${first.path} has no column "${name}"; it has ${names}`);
  }
  const columns = first.columns.filter(({ name }) => !leaveOut.includes(name));
  for (const { name, type } of columns) {
    for (const other of rest) {
      const found = other.columns.find((column) => column.name === name)?.type ?? 'nothing that is kept';
      if (found === type) continue;
      throw new OrchestratorError(
        'ERR_DATA_TYPE',
        `${other.path}, column "${name}": expected ${type} as in ${first.path}, received ${found}`,
      );
    }
  }
  if (columns.length > 0) return columns;
  throw new OrchestratorError('ERR_DATA_COLUMN', `${first.path} has no column of numbers, texts or bytes`);
}

async function convertInto(
  work: string,
  files: readonly ParquetFile[],
  columns: readonly ParquetColumn[],
  { progress }: Conversion,
): Promise<Manifest> {
  const of = canonicalJson([
    files.map(({ path, bytes }) => [resolve(path), bytes, statSync(path).mtimeMs]),
    columns.map(({ name, type }) => [name, type]),
  ]);
  const state = stateIn(work, of);
  if (state.shards.length === 0) await removeShards(work);
  const total = files.reduce((sum, { rows }) => sum + rows, 0);
  let done = 0;
  let skip = state.shards.reduce((sum, { rows }) => sum + rows, 0);
  for (const file of files) {
    for (const [i, group] of file.groups.entries()) {
      const skipped = Math.min(skip, group.rows);
      skip -= skipped;
      done += skipped;
      if (skipped === group.rows) continue;
      for (const { buffers, rows } of shardsOf(file, i, columns, skipped)) {
        requireShapes(file.path, state, buffers);
        state.shards.push(await writeShard(work, state.shards.length, buffers, rows));
        await saveState(work, state);
        done += rows;
        progress?.(done, total);
      }
    }
  }
  const sources = files.map(({ path }) => basename(path));
  const manifest: Manifest = {
    ...{ format: 'orchestrator-dataset', version: 2, rows: done, columns: state.columns, encoders: null },
    ...{ latents: {}, generator: { converted: 'parquet', sources }, shards: state.shards },
  };
  await rm(join(work, MANIFEST_FILE), { force: true });
  await writeDurably(join(work, MANIFEST_FILE), `${JSON.stringify(manifest, null, 2)}\n`);
  return manifest;
}

/** What an interrupted conversion of the same files left; otherwise a beginning. */
function stateIn(work: string, of: string): State {
  try {
    const state = readJson(join(work, PROGRESS_FILE), stateSchema);
    const isThere = ({ file, bytes }: Shard) =>
      statSync(join(work, file), { throwIfNoEntry: false })?.size === bytes;
    if (state.of === of && state.shards.every(isThere)) return state;
  } catch (error) {
    if (!(error instanceof OrchestratorError)) throw error;
  }
  return { of, columns: [], shards: [] };
}

/** Removes what a conversion of other files left. */
async function removeShards(work: string): Promise<void> {
  for (const name of readdirSync(work)) if (name.endsWith('.arrow')) await rm(join(work, name));
}

async function saveState(work: string, state: State): Promise<void> {
  await replaceFile(join(work, PROGRESS_FILE), (path) => writeDurably(path, JSON.stringify(state)));
}

/** The rows of a row group from `first` on, cut into shards. */
function* shardsOf(
  file: ParquetFile,
  index: number,
  columns: readonly ParquetColumn[],
  first: number,
): Generator<{ buffers: ColumnBuffer[]; rows: number }> {
  const group = file.groups[index]!;
  const chunks = columns.map(({ name, path }) => {
    const chunk = group.chunks.get(keyOf(path));
    if (chunk) return chunk;
    throw new OrchestratorError(
      'ERR_DATA_FORMAT',
      `${file.path}: row group ${index} lacks the column "${name}"`,
    );
  });
  const bytes = chunks.reduce((sum, chunk) => sum + Number(chunk.total_uncompressed_size), 0) / group.rows;
  const perShard = Math.max(1, Math.floor(SHARD_BYTES / Math.max(1, bytes)));
  const reader = FileReader.open(file.path);
  try {
    const cursors = columns.map((column, i) => new ColumnCursor(reader, column, chunks[i]!, group.rows));
    for (let row = 0; row < group.rows; ) {
      // Rows before the first are read as well, because pages do not say which rows they hold.
      const rows = Math.min(perShard, (row < first ? first : group.rows) - row);
      const buffers = columns.map((column, i) => bufferOf(file.path, column, cursors[i]!, rows));
      if (row >= first) yield { buffers, rows };
      row += rows;
    }
  } finally {
    reader.close();
  }
}

function bufferOf(
  path: string,
  { name, type }: ParquetColumn,
  cursor: ColumnCursor,
  rows: number,
): ColumnBuffer {
  if (type === 'utf8' || type === 'int64' || type === 'bytes') {
    const values = cursor.values(rows);
    if (type === 'bytes') return bytesBuffer(path, name, values as Uint8Array[]);
    const labels: (string | bigint)[] = values.map((value) =>
      type === 'utf8' ? textOf(value) : integerOf(value),
    );
    return { column: { name, type, shape: [] }, width: 1, values: labels };
  }
  const buffer = cursor.numbers(rows).buffer as ArrayBuffer;
  const array = { float16: Uint16Array, uint16: Uint16Array, float32: Float32Array, float64: Float64Array }[
    type
  ];
  return { column: { name, type, shape: cursor.shape }, width: cursor.width, values: new array(buffer) };
}

/** Rows of bytes, which must have one length. */
function bytesBuffer(path: string, name: string, values: readonly Uint8Array[]): ColumnBuffer {
  const width = values[0]!.length;
  const other = values.find(({ length }) => length !== width);
  if (other !== undefined || width === 0) {
    throw new OrchestratorError(
      'ERR_DATA_SHAPE',
      `${path}, column "${name}": expected ${width} bytes in every row, received ${other?.length ?? 0}`,
      `Leave the column out with --leave-out ${name}`,
    );
  }
  const all = new Uint8Array(values.length * width);
  values.forEach((value, i) => {
    all.set(value, i * width);
  });
  return { column: { name, type: 'bytes', shape: [width] }, width, values: all };
}

function textOf(value: Uint8Array | null): string {
  return value === null ? '' : Buffer.from(value).toString('utf8');
}

function integerOf(value: Uint8Array | null): bigint {
  if (value === null) return 0n;
  const bytes = Buffer.from(value);
  return bytes.length === 4 ? BigInt(bytes.readInt32LE(0)) : bytes.readBigInt64LE(0);
}

/** Notes the shapes of the first shard, which those of others must have. */
function requireShapes(path: string, state: State, buffers: readonly ColumnBuffer[]): void {
  const columns: ManifestColumn[] = buffers.map(({ column }) => column);
  if (state.columns.length === 0) state.columns = columns;
  for (const [i, { name, shape }] of columns.entries()) {
    const expected = state.columns[i]!.shape;
    if (shape.join() === expected.join()) continue;
    throw new OrchestratorError(
      'ERR_DATA_SHAPE',
      `${path}, column "${name}": expected ${expected.join(' x ')} as before, received ${shape.join(' x ')}`,
      `All rows need one shape; or leave the column out with --leave-out ${name}`,
    );
  }
}

async function writeShard(
  work: string,
  number: number,
  buffers: readonly ColumnBuffer[],
  rows: number,
): Promise<Shard> {
  const bytes = shardBytes(buffers, rows);
  const file = `shard-${String(number).padStart(5, '0')}.arrow`;
  // One may be there that an interrupted conversion did not count.
  await rm(join(work, file), { force: true });
  try {
    await writeDurably(join(work, file), bytes);
  } catch (error) {
    throw writeFailure(join(work, file), error);
  }
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  return { file, rows, bytes: bytes.length, sha256, crc32: checksums(buffers, rows) };
}
