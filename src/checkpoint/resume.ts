/** Which checkpoint a run goes on from. */
import { stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { OrchestratorError } from '../errors.js';
import { describeModel, sameModel } from '../model/tensors.js';
import type { ModelSpec } from '../native/contract.js';
import { type CheckpointManifest, type EncoderNames, MANIFEST } from './manifest.js';
import { listCheckpoints } from './retention.js';
import { verifyCheckpoint } from './store.js';

/** Folder of a run's checkpoints. */
export const CHECKPOINTS = 'checkpoints';

export interface FoundCheckpoint {
  path: string;
  manifest: CheckpointManifest;
  /** Later ones that do not verify, and why: to be reported. */
  damaged: { path: string; reason: string }[];
}

/** The latest checkpoint of a `checkpoints` folder that verifies. */
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
    `None of the ${damaged.length} checkpoints in ${root} verifies:\n${damaged.map(({ reason }) => `  ${reason}`).join('\n')}`,
    { hint: 'Resume from another checkpoint with --resume PATH, or start anew with --resume never.' },
  );
}

/**
 * The latest checkpoint of a run that verifies, or null where the run has none at all.
 *
 * @throws OrchestratorError ERR_CHECKPOINT_DAMAGED where there are some and none verifies: going on from nothing would
 *   hide the loss.
 */
export async function findLatest(runDir: string): Promise<FoundCheckpoint | null> {
  return findIn(join(runDir, CHECKPOINTS));
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/**
 * The checkpoint that a path means: a checkpoint's folder, a run's folder or its `checkpoints` folder (the latest that
 * verifies).
 *
 * @throws OrchestratorError ERR_CHECKPOINT_MISSING or ERR_CHECKPOINT_DAMAGED.
 */
export async function resolveCheckpoint(path: string): Promise<FoundCheckpoint> {
  if (await exists(join(path, MANIFEST)))
    return { path, manifest: await verifyCheckpoint(path), damaged: [] };
  const root = (await exists(join(path, CHECKPOINTS))) ? join(path, CHECKPOINTS) : path;
  const found = /^step-\d+$/.test(basename(path)) ? null : await findIn(root);
  if (found !== null) return found;
  throw new OrchestratorError(
    'ERR_CHECKPOINT_MISSING',
    `${path} is neither a checkpoint (a folder with ${MANIFEST}) nor a run with checkpoints.`,
  );
}

/**
 * What `--resume auto|never|PATH` means for a run.
 *
 * @returns null to begin from the start.
 */
export async function resolveResume(resume: string, runDir: string): Promise<FoundCheckpoint | null> {
  if (resume === 'never') return null;
  return resume === 'auto' ? findLatest(runDir) : resolveCheckpoint(resume);
}

/** What a run is, as far as a checkpoint must agree with it. */
export interface RunIdentity {
  model: ModelSpec;
  datasetHash: string;
  encoders: EncoderNames | null;
}

/**
 * Refuses a checkpoint of another model, data set or text encoders. What one of the two does not name is not compared.
 *
 * @throws OrchestratorError ERR_CHECKPOINT_MISMATCH naming both.
 */
export function checkCompatible(
  { path, manifest }: Pick<FoundCheckpoint, 'path' | 'manifest'>,
  run: RunIdentity,
): void {
  const refuse = (what: string, hint: string) =>
    new OrchestratorError('ERR_CHECKPOINT_MISMATCH', `${path} is of ${what}`, {
      hint: `${hint}, or use another --run-dir.`,
    });
  if (!sameModel(manifest.modelSpec, run.model)) {
    throw refuse(
      `another model: ${describeModel(manifest.modelSpec)}; the config says ${describeModel(run.model)}.`,
      'Use the config of the run that wrote it',
    );
  }
  const data = 'Point data.path at the data set of the run that wrote it';
  if (manifest.datasetHash !== run.datasetHash) {
    throw refuse(
      `another data set: its hash is ${manifest.datasetHash}; the data set of the config has ${run.datasetHash}.`,
      data,
    );
  }
  for (const encoder of ['clip_l', 'clip_g', 't5'] as const) {
    const [then, now] = [manifest.encoders?.[encoder], run.encoders?.[encoder]];
    if (then === undefined || now === undefined || then === now) continue;
    throw refuse(
      `another text encoder: its ${encoder} is ${then}; that of the config's data set is ${now}.`,
      data,
    );
  }
}

/** What the bits of a run depend on beside its config; a part of a manifest's `versions`. */
export type Arithmetic = Record<string, string>;

/** Kernels that had no version yet multiplied matrices by oneDNN, and checkpoints name its version. */
function kernelsOf(versions: Arithmetic): string | undefined {
  const { kernels, onednn } = versions;
  return kernels ?? (onednn === undefined ? undefined : `with oneDNN ${onednn}`);
}

/**
 * What of the arithmetic is not as it was where a checkpoint was written: then a run goes on rightly, but with other
 * bits than it would have had there. Null: nothing.
 */
export function otherArithmetic(
  { versions }: Pick<CheckpointManifest, 'versions'>,
  here: Arithmetic,
): string | null {
  const there: Record<string, string | undefined> = { ...versions, kernels: kernelsOf(versions) };
  const changes = Object.keys(here)
    .filter((key) => there[key] !== undefined && there[key] !== here[key])
    .map((key) => `${key} ${there[key]} there, ${here[key]} here`);
  if (changes.length === 0) return null;
  return `the checkpoint was written with other arithmetic (${changes.join('; ')}): the run goes on, but not to the same bits`;
}
