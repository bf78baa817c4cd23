/** Which checkpoint a run goes on from. */
import { stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { OrchestratorError } from '../errors.js';
import { describeModel, sameModel } from '../model/tensors.js';
import type { ModelSpec } from '../native/contract.js';
import { type CheckpointManifest, MANIFEST } from './manifest.js';
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

/**
 * Refuses a checkpoint of another model or data set.
 *
 * @throws OrchestratorError ERR_CHECKPOINT_MISMATCH naming both.
 */
export function checkCompatible(
  found: Pick<FoundCheckpoint, 'path' | 'manifest'>,
  run: { model: ModelSpec; datasetHash: string },
): void {
  const { path, manifest } = found;
  if (!sameModel(manifest.modelSpec, run.model)) {
    throw new OrchestratorError(
      'ERR_CHECKPOINT_MISMATCH',
      `${path} is of another model: ${describeModel(manifest.modelSpec)}; the config says ${describeModel(run.model)}.`,
      { hint: 'Use the config of the run that wrote it, or another --run-dir.' },
    );
  }
  if (manifest.datasetHash !== run.datasetHash) {
    throw new OrchestratorError(
      'ERR_CHECKPOINT_MISMATCH',
      `${path} is of another data set: its hash is ${manifest.datasetHash}; the data set of the config has ${run.datasetHash}.`,
      { hint: 'Point data.path at the data set of the run that wrote it, or use another --run-dir.' },
    );
  }
}
