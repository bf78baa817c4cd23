/** Finds the checkpoint from which a run resumes, and checks that it belongs to the run. */
import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { OrchestratorError } from '../errors.js';
import { describeModel, sameModel } from '../model/tensors.js';
import { type CheckpointManifest, MANIFEST, MODEL_FILE } from './manifest.js';
import { noCheckpoint } from './missing.js';
import { listCheckpoints } from './retention.js';
import { verifyCheckpoint } from './store.js';

/** Name of the folder of a run's checkpoints. */
export const CHECKPOINTS = 'checkpoints';

interface FoundCheckpoint {
  path: string;
  manifest: CheckpointManifest;
  /** Later checkpoints that are not valid, with the reason for each. */
  damaged: { path: string; reason: string }[];
}

/**
 * The latest valid checkpoint of a `checkpoints` folder, or null if there are none. If there are some, but
 * none is valid, throws ERR_CHECKPOINT_DAMAGED, because starting from the beginning would hide the loss.
 */
async function findIn(root: string): Promise<FoundCheckpoint | null> {
  const damaged: FoundCheckpoint['damaged'] = [];
  for (const { path } of await listCheckpoints(root)) {
    try {
      return { path, manifest: await verifyCheckpoint(path), damaged };
    } catch (error) {
      if (!(error instanceof OrchestratorError)) throw error;
      damaged.push({ path, reason: error.message });
    }
  }
  if (damaged.length === 0) return null;
  throw new OrchestratorError(
    'ERR_CHECKPOINT_DAMAGED',
    `None of the ${damaged.length} checkpoints in ${root} is valid:\n${damaged.map(({ reason }) => `  ${reason}`).join('\n')}`,
    'Resume from another checkpoint with --resume PATH, or start a new run in another --run-dir',
  );
}

/**
 * The checkpoint at a path, which may be a checkpoint's folder, or a run's folder or its `checkpoints` folder
 * (then the latest valid checkpoint).
 */
export async function resolveCheckpoint(path: string): Promise<FoundCheckpoint> {
  if (existsSync(join(path, MANIFEST))) return { path, manifest: await verifyCheckpoint(path), damaged: [] };
  const root = existsSync(join(path, CHECKPOINTS)) ? join(path, CHECKPOINTS) : path;
  const found = /^step-\d+$/.test(basename(path)) ? null : await findIn(root);
  if (found !== null) return found;
  throw noCheckpoint(path);
}

/**
 * The checkpoint that `--resume auto|never|PATH` means for a run.
 *
 * @returns null to start from the beginning.
 */
export async function resolveResume(resume: string, runDir: string): Promise<FoundCheckpoint | null> {
  if (resume === 'never') return null;
  return resume === 'auto' ? findIn(join(runDir, CHECKPOINTS)) : resolveCheckpoint(resume);
}

/** The properties of a run that a checkpoint must share. */
export type RunIdentity = Pick<CheckpointManifest, 'modelSpec' | 'optimizer' | 'datasetHash' | 'encoders'>;

/**
 * Refuses a checkpoint of another model, optimizer, data set or text encoders. Encoders that one of the two
 * does not name are not compared.
 */
export function checkCompatible(
  { path, manifest }: Pick<FoundCheckpoint, 'path' | 'manifest'>,
  run: RunIdentity,
): void {
  const refuse = (what: string, remedy: string, other = 'use another --run-dir') =>
    new OrchestratorError('ERR_CHECKPOINT_MISMATCH', `${path} belongs to ${what}`, `${remedy}, or ${other}`);
  if (!sameModel(manifest.modelSpec, run.modelSpec)) {
    throw refuse(
      `another model: ${describeModel(manifest.modelSpec)}; the config says ${describeModel(run.modelSpec)}`,
      'Use the config of the run that wrote it',
    );
  }
  if (manifest.optimizer !== run.optimizer) {
    throw refuse(
      `another optimizer: ${manifest.optimizer}; the config says ${run.optimizer}`,
      `Set optimizer.name to ${manifest.optimizer}`,
      `start from its weights alone, with init: ${join(path, MODEL_FILE)} and another --run-dir`,
    );
  }
  const data = 'Point data.path at the data set of the run that wrote it';
  if (manifest.datasetHash !== run.datasetHash) {
    throw refuse(
      `another data set: its hash is ${manifest.datasetHash}; the data set of the config has ${run.datasetHash}`,
      data,
    );
  }
  for (const encoder of ['clip_l', 'clip_g', 't5'] as const) {
    const [then, now] = [manifest.encoders?.[encoder], run.encoders?.[encoder]];
    if (then === undefined || now === undefined || then === now) continue;
    throw refuse(
      `another text encoder: its ${encoder} is ${then}; that of the config's data set is ${now}`,
      data,
    );
  }
}

/**
 * Differences in instruction set, libraries or precision from where a checkpoint was written, or null. With
 * any, the run can be resumed, but not bit for bit.
 *
 * @param here what the bits of a run depend on besides its config; a part of a manifest's `versions`.
 */
export function otherArithmetic(
  { versions }: Pick<CheckpointManifest, 'versions'>,
  here: CheckpointManifest['versions'],
): string | null {
  // Before kernels had versions, oneDNN multiplied matrices, and checkpoints name its version.
  const { onednn, kernels = onednn && `with oneDNN ${onednn}` } = versions;
  const there: Record<string, string | undefined> = { ...versions, kernels };
  const changes = Object.keys(here)
    .filter((key) => there[key] !== undefined && there[key] !== here[key])
    .map((key) => `${key} ${there[key]} there, ${here[key]} here`);
  if (changes.length === 0) return null;
  return `the checkpoint was written with other arithmetic (${changes.join('; ')}): the run can be resumed, but not bit for bit`;
}
