/**
 * Checkpoints on disk: `checkpoints/step-00001000/` with the weights, their EMA and the optimizer's moments
 * as safetensors, and a manifest. A folder gets its final name only when everything in it is durable and was
 * read back. The current checkpoint is the latest valid one; there is no pointer to it. The layout does not
 * depend on the number of workers.
 */
import { existsSync } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { OrchestratorError } from '../errors.js';
import { type FileRecord, hashFile } from '../files/hash.js';
import {
  freeBytes,
  makeFolders,
  reasonOf,
  syncFolder,
  uniqueSuffix,
  writeDurably,
  writeFailure,
} from '../files/io.js';
import { Safetensors } from '../formats/safetensors/file.js';
import { elementsOf } from '../formats/safetensors/header.js';
import { type TensorSource, writeSafetensors } from '../formats/safetensors/write.js';
import { describeModel, OFFICIAL_PREFIX, officialName, POS_EMBED } from '../model/tensors.js';
import type { EngineLayout, StateName, StateTensors } from '../native/contract.js';
import { native } from '../native/load.js';
import { bytes } from '../text/quantities.js';
import {
  type CheckpointFile,
  type CheckpointManifest,
  type CheckpointMetadata,
  damaged,
  EMA_FILE,
  encodeManifest,
  MANIFEST,
  MODEL_FILE,
  OPTIMIZER_FILE,
  readManifest,
} from './manifest.js';

/** Prefixes of folders that a killed process may leave behind; see recoverStore. */
export const PARTIAL = '.partial-';
export const REPLACED = '.replaced-';
/** The name of a staged checkpoint's folder; its groups are the final name and the process that writes it. */
const STAGED = /^\.partial-(step-\d{8,15})-(\d+)-[0-9a-f]{8}$/;

/** What is staged in a folder of this name, and by which process; null: it is no staged checkpoint's. */
export function stagedIn(folder: string): { step: number; pid: number } | null {
  const [, name, pid] = STAGED.exec(folder) ?? [];
  return name === undefined ? null : { step: stepOfName(name)!, pid: Number(pid) };
}

/** What a checkpoint must know of the layout of its arrays. */
type StoredLayout = Pick<EngineLayout, 'tensors' | 'moments' | 'posEmbed' | 'parameters'>;

/** The arrays of a checkpoint, which are written, or filled from its files. */
interface CheckpointArrays {
  layout: StoredLayout;
  /** The master weights, the layout's moments, and the EMA where it is saved or loaded. */
  state: StateTensors;
  /** [P * P * hidden] */
  posEmbed: Float32Array;
}

/** The arrays must not change while they are written. */
export interface CheckpointContent extends CheckpointArrays {
  metadata: CheckpointMetadata;
}

export function checkpointName(step: number): string {
  return `step-${String(step).padStart(8, '0')}`;
}

/** The step of a checkpoint folder's name, or null for any other name. */
export function stepOfName(name: string): number | null {
  const match = /^step-(\d{8,15})$/.exec(name);
  return match === null ? null : Number(match[1]);
}

/** A tensor of a checkpoint's file; `values` is called when it is about to be written or filled. */
interface StoredTensor {
  name: string;
  shape: readonly number[];
  values: () => Float32Array | Promise<Float32Array>;
}

/** The tensors of each file, in order. An EMA that the state lacks has no file. */
function filesOf({ layout, state, posEmbed }: CheckpointArrays): [CheckpointFile, StoredTensor[]][] {
  const parameters = (name: StateName, prefix: string): StoredTensor[] => {
    const read = state.get(name);
    if (read === undefined) throw new OrchestratorError('ERR_INTERNAL', `The state "${name}" is missing`);
    return layout.tensors.map((tensor) => ({
      name: prefix + tensor.name,
      shape: tensor.shape,
      values: () => read(tensor.name),
    }));
  };
  const table = { name: officialName(POS_EMBED), shape: layout.posEmbed.shape, values: () => posEmbed };
  const files: [CheckpointFile, StoredTensor[]][] = [
    [MODEL_FILE, [table, ...parameters('master', OFFICIAL_PREFIX)]],
    [EMA_FILE, state.has('ema') ? [table, ...parameters('ema', OFFICIAL_PREFIX)] : []],
    [OPTIMIZER_FILE, layout.moments.flatMap((name) => parameters(name, `${name}.`))],
  ];
  return files.filter(([, tensors]) => tensors.length > 0);
}

/** A complete checkpoint that is not published: it has no final name, and nobody resumes from it. */
export interface StagedCheckpoint {
  /** Name of its folder in the run's `checkpoints` folder. */
  folder: string;
  manifest: CheckpointManifest;
  seconds: number;
}

/**
 * Writes a checkpoint into a folder that publishCheckpoint renames, and verifies it as read back from the
 * disk. Files are written and hashed in chunks, so that the event loop is not blocked; everything is durable
 * when the promise resolves.
 *
 * @param root the run's `checkpoints` folder; it is created if it is missing.
 * @param onProgress is called again and again while bytes are written and read.
 * @throws OrchestratorError ERR_CHECKPOINT_WRITE (full disk, read-only, ...): earlier checkpoints are
 *   untouched, and the unfinished folder is removed.
 */
export async function stageCheckpoint(
  root: string,
  content: CheckpointContent,
  onProgress: () => void = () => {},
): Promise<StagedCheckpoint> {
  const started = performance.now();
  const files = filesOf(content);
  const { step } = content.metadata;
  const name = checkpointName(step);
  const folder = `${PARTIAL}${name}-${uniqueSuffix()}`;
  const partial = join(root, folder);
  try {
    await makeFolders(root);
    await checkSpace(root, name, checkpointBytes(files));
    await mkdir(partial);
    const records: CheckpointManifest['files'] = {};
    for (const [file, tensors] of files) {
      const path = join(partial, file);
      records[file] = await writeSafetensors(
        path,
        tensors.map((tensor) => sourceOf(tensor, onProgress)),
        { format: 'pt', 'orchestrator.step': String(step) },
      );
      await native().dropCachedPages(path);
    }
    const manifest = { ...content.metadata, parameters: content.layout.parameters, files: records };
    await writeDurably(join(partial, MANIFEST), encodeManifest(manifest));
    await syncFolder(partial);
    await verifyCheckpoint(partial, undefined, onProgress);
    return { folder, manifest, seconds: (performance.now() - started) / 1000 };
  } catch (error) {
    await rm(partial, { recursive: true, force: true }).catch(() => {});
    throw notWritten(step, join(root, name), error);
  }
}

/** The error for a checkpoint that the system or the disk does not take; others are passed through. */
function notWritten(step: number, path: string, error: unknown): unknown {
  const { code, message, hint } = writeFailure(path, error);
  if (code !== 'ERR_FILE_WRITE' && code !== 'ERR_CHECKPOINT_DAMAGED') return error;
  const what = code === 'ERR_FILE_WRITE' ? message : `what was written reads back otherwise: ${message}`;
  return new OrchestratorError(
    'ERR_CHECKPOINT_WRITE',
    `The checkpoint of step ${step} was not written: ${what}; earlier checkpoints are untouched`,
    {
      hint: code === 'ERR_FILE_WRITE' ? hint : 'Check the disk and the memory of this machine',
      cause: error,
    },
  );
}

function sourceOf({ name, shape, values }: StoredTensor, onProgress: () => void): TensorSource {
  const data = async function* () {
    onProgress();
    yield await values();
  };
  return { name, dtype: 'F32', shape, data };
}

function checkpointBytes(files: readonly [CheckpointFile, StoredTensor[]][]): number {
  const shapes = files.flatMap(([, tensors]) => tensors.map(({ shape }) => shape));
  return shapes.reduce((sum, shape) => sum + 4 * elementsOf(shape)!, 0);
}

/** Bytes that a checkpoint leaves free, because ledger, metrics and log go on while it is written. */
export const LEFT_FREE = 4 << 20;

/** Refuses in advance to write what does not fit, because a full disk also stops the ledger and the run. */
async function checkSpace(root: string, name: string, needed: number): Promise<void> {
  const free = await freeBytes(root);
  if (free === null || needed + LEFT_FREE <= free) return;
  throw new OrchestratorError(
    'ERR_FILE_WRITE',
    `${join(root, name)} needs ${bytes(needed)} and ${bytes(LEFT_FREE)} for the run's records, and ${bytes(free)} are free (ENOSPC)`,
    'Free some space, or lower checkpoint.keep',
  );
}

/**
 * Gives a staged checkpoint its final name, and returns its path. A checkpoint of the same step is replaced.
 *
 * @param folder the name that stageCheckpoint gave; others are refused.
 */
export async function publishCheckpoint(root: string, folder: string): Promise<string> {
  const name = STAGED.exec(folder)?.[1];
  if (name === undefined) {
    throw new OrchestratorError('ERR_PROTOCOL', `${JSON.stringify(folder)} is not a staged checkpoint`);
  }
  const [partial, final] = [join(root, folder), join(root, name)];
  const replaced = existsSync(final) ? join(root, `${REPLACED}${name}-${uniqueSuffix()}`) : null;
  try {
    if (replaced !== null) await rename(final, replaced);
    await rename(partial, final);
    await syncFolder(root);
  } catch (error) {
    await rm(partial, { recursive: true, force: true }).catch(() => {});
    if (replaced !== null && !existsSync(final)) await rename(replaced, final).catch(() => {});
    throw notWritten(stepOfName(name)!, final, error);
  }
  // If it cannot be removed, the next start removes it.
  if (replaced !== null) await rm(replaced, { recursive: true, force: true }).catch(() => {});
  return final;
}

/**
 * Reads a checkpoint's manifest and verifies the hash of every file that it names.
 *
 * @param onFile is called for each valid file.
 * @param onBytes is called with the size of each chunk that was read.
 */
export async function verifyCheckpoint(
  path: string,
  onFile: (name: string, record: FileRecord) => void = () => {},
  onBytes: ((bytes: number) => void) | null = null,
): Promise<CheckpointManifest> {
  const manifest = await openCheckpoint(path);
  for (const [name, record] of Object.entries(manifest.files)) {
    const file = join(path, name);
    const found = await hashFile(file, onBytes).catch((error) => {
      throw damaged(file, `cannot be read: ${reasonOf(error)}`, error);
    });
    checkRecord(file, record, found);
    onFile(name, record);
  }
  return manifest;
}

function checkRecord(path: string, expected: FileRecord, found: FileRecord): void {
  if (found.bytes !== expected.bytes) {
    throw damaged(path, `holds ${found.bytes} bytes; the manifest says ${expected.bytes}`);
  }
  if (found.sha256 !== expected.sha256) {
    throw damaged(path, `has the SHA-256 ${found.sha256}; the manifest says ${expected.sha256}`);
  }
}

/** Reads the manifest of a checkpoint folder, and checks it against the folder's name. */
export async function openCheckpoint(path: string): Promise<CheckpointManifest> {
  const manifest = await readManifest(path).catch((cause) => {
    if (!(cause instanceof OrchestratorError) || cause.code !== 'ERR_FILE_OPEN') throw cause;
    const message = `${path} is not a checkpoint: ${cause.message}`;
    throw new OrchestratorError('ERR_CHECKPOINT_MISSING', message, { cause });
  });
  const step = stepOfName(basename(resolve(path)));
  if (step !== null && step !== manifest.step) {
    throw damaged(join(path, MANIFEST), `belongs to step ${manifest.step}; the folder's name says ${step}`);
  }
  return manifest;
}

/**
 * Fills arrays from a checkpoint, and checks each file's hash while it is read.
 *
 * @throws OrchestratorError ERR_CHECKPOINT_DAMAGED: names the file, and the arrays are undefined until they
 *   are filled from another checkpoint; ERR_CHECKPOINT_MISMATCH: the checkpoint belongs to another model, or
 *   lacks a file.
 */
export async function loadCheckpoint(path: string, targets: CheckpointArrays): Promise<CheckpointManifest> {
  const manifest = await openCheckpoint(path);
  checkLayout(path, manifest, targets.layout);
  for (const [file, tensors] of filesOf(targets)) {
    const record = manifest.files[file];
    if (record === undefined) {
      throw new OrchestratorError(
        'ERR_CHECKPOINT_MISMATCH',
        `${path} holds no ${file}${file === EMA_FILE ? '; the run that wrote it kept no EMA' : ''}`,
      );
    }
    const arrays = new Map<string, Float32Array>();
    for (const { name, values } of tensors) arrays.set(name, await values());
    await readFile(join(path, file), record, arrays);
  }
  return manifest;
}

function checkLayout(path: string, manifest: CheckpointManifest, layout: StoredLayout): void {
  const { tensors } = native().parameters(manifest.modelSpec);
  const has = new Map(tensors.map(({ name, shape }) => [name, shape.join('x')]));
  const other = layout.tensors.find(({ name, shape }) => has.get(name) !== shape.join('x'));
  if (other === undefined && has.size === layout.tensors.length) return;
  const first = other === undefined ? 'fewer tensors' : `${other.name} [${other.shape.join(', ')}]`;
  throw new OrchestratorError(
    'ERR_CHECKPOINT_MISMATCH',
    `${path} belongs to another model (${describeModel(manifest.modelSpec)}); the run's has ${first}`,
  );
}

async function readFile(path: string, record: FileRecord, arrays: Map<string, Float32Array>): Promise<void> {
  let found: FileRecord;
  try {
    const file = await Safetensors.open(path);
    try {
      found = { bytes: file.bytes, sha256: await file.readAll(arrays) };
    } finally {
      await file.close();
    }
  } catch (error) {
    if (!(error instanceof OrchestratorError)) throw error;
    throw damaged(path, `cannot be read: ${error.message}`, error);
  }
  checkRecord(path, record, found);
}
