/**
 * Checkpoints on disk: `checkpoints/step-00001000/` with the weights, their EMA and the optimizer's moments as
 * safetensors, and a manifest. A folder appears under its final name only when everything in it is durable, and what is
 * current is what verifies, not what a pointer says. The layout does not depend on the number of workers.
 */

import { mkdir, rename, rm, statfs } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { OrchestratorError } from '../errors.js';
import { type FileRecord, hashFile } from '../files/hash.js';
import { errnoOf, reasonOf, syncFolder, uniqueSuffix, writeDurably, writeFailure } from '../files/io.js';
import {
  SafetensorsFile,
  sourceBytes,
  type TensorSource,
  writeSafetensors,
} from '../formats/safetensors/file.js';
import { describeModel, expectedTensors, officialName, POS_EMBED } from '../model/tensors.js';
import type { EngineLayout, StateName, StateTensors } from '../native/contract.js';
import {
  type CheckpointFile,
  type CheckpointManifest,
  type CheckpointMetadata,
  EMA_FILE,
  encodeManifest,
  MANIFEST,
  MODEL_FILE,
  OPTIMIZER_FILE,
  readManifest,
} from './manifest.js';

export type { CheckpointManifest, CheckpointMetadata, PlanState } from './manifest.js';

/** Prefixes of folders that a killed process may leave; see recoverStore. */
export const PARTIAL = '.partial-';
export const REPLACED = '.replaced-';

export interface CheckpointContent {
  layout: EngineLayout;
  /** Of master, m and v, and of ema where the run keeps one; they must not change meanwhile. */
  state: StateTensors;
  /** [P * P * hidden] */
  posEmbed: Float32Array;
  metadata: CheckpointMetadata;
}

export interface SavedCheckpoint {
  path: string;
  manifest: CheckpointManifest;
  bytes: number;
  seconds: number;
}

export function checkpointName(step: number): string {
  return `step-${String(step).padStart(8, '0')}`;
}

/** The step of a checkpoint folder's name, or null for any other name. */
export function stepOfName(name: string): number | null {
  const match = /^step-(\d{8,15})$/.exec(name);
  return match === null ? null : Number(match[1]);
}

/** A parameter is asked for when its turn to be written comes. */
function stateTensors(
  { state, layout }: CheckpointContent,
  name: StateName,
  fileName: (tensor: string) => string,
): TensorSource[] {
  const read = state.get(name);
  if (read === undefined) {
    throw new OrchestratorError('ERR_INTERNAL', `A checkpoint was asked for without "${name}".`);
  }
  return layout.tensors.map(({ name: tensor, shape }) => ({
    name: fileName(tensor),
    dtype: 'F32',
    shape,
    data: async function* () {
      yield await read(tensor);
    },
  }));
}

function weightTensors(content: CheckpointContent, name: 'master' | 'ema'): TensorSource[] {
  const [positions] = expectedTensors(content.metadata.modelSpec);
  return [
    { name: officialName(POS_EMBED), dtype: 'F32', shape: positions!.shape, data: content.posEmbed },
    ...stateTensors(content, name, officialName),
  ];
}

/** The tensors of each file, in the order of writing. */
function filesOf(content: CheckpointContent): Map<CheckpointFile, TensorSource[]> {
  const files = new Map<CheckpointFile, TensorSource[]>();
  files.set(MODEL_FILE, weightTensors(content, 'master'));
  if (content.state.has('ema')) files.set(EMA_FILE, weightTensors(content, 'ema'));
  files.set(OPTIMIZER_FILE, [
    ...stateTensors(content, 'm', (tensor) => `m.${tensor}`),
    ...stateTensors(content, 'v', (tensor) => `v.${tensor}`),
  ]);
  return files;
}

/**
 * Writes a checkpoint. Files are written and hashed in chunks, so that the event loop goes on; everything is durable when
 * the promise resolves.
 *
 * @param root the run's `checkpoints` folder, made if missing.
 * @throws OrchestratorError ERR_CHECKPOINT_WRITE (full disk, read-only, ...): the checkpoints before are untouched, and
 *   nothing is left under the final name.
 */
export async function saveCheckpoint(root: string, content: CheckpointContent): Promise<SavedCheckpoint> {
  const started = performance.now();
  const files = filesOf(content);
  const name = checkpointName(content.metadata.step);
  const final = join(root, name);
  const partial = join(root, `${PARTIAL}${name}-${uniqueSuffix()}`);
  try {
    await makeFolder(root);
    await checkSpace(root, final, files);
    await mkdir(partial);
    const records: CheckpointManifest['files'] = {};
    for (const [file, tensors] of files) {
      records[file] = await writeSafetensors(join(partial, file), tensors, {
        format: 'pt',
        'orchestrator.step': String(content.metadata.step),
      });
    }
    const manifest = { ...content.metadata, parameters: content.layout.parameters, files: records };
    await writeDurably(join(partial, MANIFEST), encodeManifest(manifest));
    await syncFolder(partial);
    await publish(root, partial, final);
    const bytes = Object.values(records).reduce((sum, record) => sum + record.bytes, 0);
    return { path: final, manifest, bytes, seconds: (performance.now() - started) / 1000 };
  } catch (error) {
    await rm(partial, { recursive: true, force: true }).catch(() => {});
    const { code, message, hint } = writeFailure(final, error);
    if (code !== 'ERR_FILE_WRITE') throw error;
    throw new OrchestratorError(
      'ERR_CHECKPOINT_WRITE',
      `The checkpoint of step ${content.metadata.step} was not written: ${message} Earlier checkpoints are untouched.`,
      { cause: error, ...(hint === null ? {} : { hint }) },
    );
  }
}

/** Makes a folder and those above it, and makes their entries durable. */
async function makeFolder(path: string): Promise<void> {
  const first = await mkdir(path, { recursive: true });
  if (first === undefined) return;
  for (let folder = resolve(path); ; folder = dirname(folder)) {
    await syncFolder(dirname(folder));
    if (folder === resolve(first)) return;
  }
}

/** Refuses before writing what will not fit: a disk filled to the brim also stops the journal and the logs. */
async function checkSpace(
  root: string,
  final: string,
  files: ReadonlyMap<CheckpointFile, TensorSource[]>,
): Promise<void> {
  const stat = await statfs(root);
  const free = stat.bavail * stat.bsize;
  let needed = 0;
  for (const tensors of files.values()) for (const tensor of tensors) needed += sourceBytes(tensor);
  if (stat.blocks === 0 || needed <= free) return;
  const mega = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;
  throw new OrchestratorError(
    'ERR_FILE_WRITE',
    `${final} needs ${mega(needed)}, and ${mega(free)} are free (ENOSPC).`,
    { hint: 'Free some space, or lower checkpoint.keep, and resume the run.' },
  );
}

/** Renames a complete folder to its final name. An older folder of that name is put aside first, and then removed. */
async function publish(root: string, partial: string, final: string): Promise<void> {
  let aside: string | null = null;
  try {
    await rename(partial, final);
  } catch (error) {
    if (errnoOf(error) !== 'ENOTEMPTY' && errnoOf(error) !== 'EEXIST') throw error;
    aside = join(root, `${REPLACED}${basename(final)}-${uniqueSuffix()}`);
    await rename(final, aside);
    await rename(partial, final);
  }
  await syncFolder(root);
  if (aside !== null) await rm(aside, { recursive: true, force: true });
}

function damaged(path: string, what: string, cause?: unknown): OrchestratorError {
  return new OrchestratorError(
    'ERR_CHECKPOINT_DAMAGED',
    `${path}: ${what}`,
    cause === undefined ? {} : { cause },
  );
}

/**
 * Reads a checkpoint's manifest and hashes every file that it names.
 *
 * @param onFile told of each file that is as it should be.
 * @throws OrchestratorError ERR_CHECKPOINT_DAMAGED naming the file, ERR_CHECKPOINT_MISSING where there is no manifest,
 *   ERR_CHECKPOINT_MISMATCH for a format of another version.
 */
export async function verifyCheckpoint(
  path: string,
  onFile: (name: string, record: FileRecord) => void = () => {},
): Promise<CheckpointManifest> {
  const manifest = await openCheckpoint(path);
  for (const [name, record] of Object.entries(manifest.files)) {
    const file = join(path, name);
    let found: FileRecord;
    try {
      found = await hashFile(file);
    } catch (error) {
      throw damaged(file, `cannot be read: ${reasonOf(error)}`, error);
    }
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

/** The checked manifest of a checkpoint folder, its place in the run included. */
export async function openCheckpoint(path: string): Promise<CheckpointManifest> {
  let manifest: CheckpointManifest;
  try {
    manifest = await readManifest(path);
  } catch (error) {
    if (error instanceof OrchestratorError && error.code === 'ERR_FILE_OPEN') {
      throw new OrchestratorError('ERR_CHECKPOINT_MISSING', `${path} is no checkpoint: ${error.message}`, {
        cause: error,
      });
    }
    throw error;
  }
  const step = stepOfName(basename(resolve(path)));
  if (step !== null && step !== manifest.step) {
    throw damaged(join(path, MANIFEST), `is of step ${manifest.step}; the folder's name says ${step}`);
  }
  return manifest;
}

/** Where a checkpoint's arrays go. */
export interface CheckpointTargets {
  layout: EngineLayout;
  /** Gives the memory that a parameter goes to. States not given are not read. */
  state: StateTensors;
  posEmbed: Float32Array | null;
}

/**
 * Fills arrays from a checkpoint, checking each file's hash as it is read.
 *
 * @throws OrchestratorError ERR_CHECKPOINT_DAMAGED naming the file (the arrays are then undefined: fill them from another
 *   checkpoint), ERR_CHECKPOINT_MISMATCH where the checkpoint lacks what is asked for or is of another model.
 */
export async function loadCheckpoint(path: string, targets: CheckpointTargets): Promise<CheckpointManifest> {
  const manifest = await openCheckpoint(path);
  checkLayout(path, manifest, targets.layout);
  for (const [file, arrays] of await targetsByFile(targets)) {
    const record = manifest.files[file];
    if (record === undefined) {
      throw new OrchestratorError(
        'ERR_CHECKPOINT_MISMATCH',
        `${path} holds no ${file}${file === EMA_FILE ? '; the run that wrote it kept no EMA' : ''}.`,
      );
    }
    await readFile(join(path, file), record, arrays);
  }
  return manifest;
}

function checkLayout(path: string, manifest: CheckpointManifest, layout: EngineLayout): void {
  const has = new Map(expectedTensors(manifest.modelSpec).map(({ name, shape }) => [name, shape.join('x')]));
  const other = layout.tensors.find(({ name, shape }) => has.get(name) !== shape.join('x'));
  if (other === undefined && has.size === layout.tensors.length + 1) return;
  const first = other === undefined ? 'fewer tensors' : `${other.name} [${other.shape.join(', ')}]`;
  throw new OrchestratorError(
    'ERR_CHECKPOINT_MISMATCH',
    `${path} is of another model (${describeModel(manifest.modelSpec)}); the run's has ${first}.`,
  );
}

async function targetsByFile(
  targets: CheckpointTargets,
): Promise<Map<CheckpointFile, Map<string, Float32Array>>> {
  const { layout, state, posEmbed } = targets;
  const files = new Map<CheckpointFile, Map<string, Float32Array>>();
  for (const [name, tensorOf] of state) {
    const weights = name === 'master' || name === 'ema';
    const file = name === 'master' ? MODEL_FILE : name === 'ema' ? EMA_FILE : OPTIMIZER_FILE;
    const arrays = files.get(file) ?? new Map<string, Float32Array>();
    files.set(file, arrays);
    for (const { name: tensor } of layout.tensors) {
      arrays.set(weights ? officialName(tensor) : `${name}.${tensor}`, await tensorOf(tensor));
    }
    if (weights && posEmbed !== null) arrays.set(officialName(POS_EMBED), posEmbed);
  }
  return files;
}

async function readFile(path: string, record: FileRecord, arrays: Map<string, Float32Array>): Promise<void> {
  let found: FileRecord;
  try {
    const file = await SafetensorsFile.open(path);
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
