/** Finds the checkpoint from which a run resumes, and checks that it belongs to the run. */
import { existsSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { OrchestratorError } from '../errors.js';
import { nearest } from '../text/nearest.js';
import { type CheckpointManifest, MANIFEST } from './manifest.js';
import { noCheckpoint } from './missing.js';
import { listCheckpoints } from './retention.js';
import { type openCheckpoint, verifyCheckpoint } from './store.js';

/** Name of the folder of a run's checkpoints. */
export const CHECKPOINTS = 'checkpoints';

export interface FoundCheckpoint {
  path: string;
  manifest: CheckpointManifest;
  /** Later checkpoints that are not valid, with the reason for each. */
  damaged: { path: string; reason: string }[];
}

/**
 * The latest valid checkpoint of a `checkpoints` folder, or null if there are none. If there are some, but
 * none is valid, throws ERR_CHECKPOINT_DAMAGED, because starting from the beginning would hide the loss.
 */
async function findIn(root: string, check: typeof openCheckpoint): Promise<FoundCheckpoint | null> {
  const damaged: FoundCheckpoint['damaged'] = [];
  for (const { path } of await listCheckpoints(root)) {
    try {
      return { path, manifest: await check(path), damaged };
    } catch (error) {
      if (!(error instanceof OrchestratorError)) throw error;
      damaged.push({ path, reason: error.message });
    }
  }
  if (damaged.length === 0) return null;
  throw new OrchestratorError(
    'ERR_CHECKPOINT_DAMAGED',
    `None of the ${damaged.length} checkpoints in ${root} is valid:\n${damaged.map(({ reason }) => `  ${reason}`).join('\n')}`,
    'Resume from another checkpoint with `--resume PATH`, or start a new run in another --run-dir',
  );
}

/** A path, or where nothing is there, the folder of the run of this name in runs/, if there is one. */
export function underRuns(path: string): string {
  const named = join('runs', path);
  return !existsSync(path) && existsSync(named) ? named : path;
}

/**
 * The checkpoint at a path, which may be a checkpoint's folder, or a run's folder or its `checkpoints` folder
 * (then the latest valid checkpoint), or a run's name (underRuns).
 *
 * @param check `openCheckpoint` reads manifests alone, `verifyCheckpoint` every byte.
 */
export async function resolveCheckpoint(
  given: string,
  check: typeof openCheckpoint = verifyCheckpoint,
): Promise<FoundCheckpoint> {
  const path = underRuns(given);
  if (existsSync(path) && statSync(path).isFile()) throw noCheckpoint(path);
  if (existsSync(join(path, MANIFEST))) return { path, manifest: await check(path), damaged: [] };
  const root = existsSync(join(path, CHECKPOINTS)) ? join(path, CHECKPOINTS) : path;
  const found = /^step-\d+$/.test(basename(path)) ? null : await findIn(root, check);
  if (found !== null) return found;
  throw noCheckpoint(path);
}

/**
 * The checkpoint that `--resume auto|never|PATH` means for a run.
 *
 * @param check see resolveCheckpoint.
 * @returns null to start from the beginning.
 */
export async function resolveResume(
  choice: string,
  runDir: string,
  check: typeof openCheckpoint = verifyCheckpoint,
): Promise<FoundCheckpoint | null> {
  if (choice === 'never') return null;
  if (choice === 'auto') return await findIn(join(runDir, CHECKPOINTS), check);
  return await resolveCheckpoint(choice, check).catch((error) => {
    if (!(error instanceof OrchestratorError) || error.code !== 'ERR_CHECKPOINT_MISSING') throw error;
    const near = nearest(choice, ['auto', 'never']);
    const hint = `--resume takes auto, never, or the path of a checkpoint or a run${near === null ? '' : `; did you mean ${near}`}`;
    const what = existsSync(choice) ? error.message : `there is nothing at ${resolve(choice)}`;
    throw new OrchestratorError(error.code, `--resume ${choice}: ${what}`, { hint, cause: error });
  });
}

/** Refuses a checkpoint of other text encoders. Those that one of the two does not name are not compared. */
export function checkEncoders(
  { path, manifest }: Pick<FoundCheckpoint, 'path' | 'manifest'>,
  encoders: CheckpointManifest['encoders'],
): void {
  for (const encoder of ['clip_l', 'clip_g', 't5'] as const) {
    const [then, now] = [manifest.encoders?.[encoder], encoders?.[encoder]];
    if (then === undefined || now === undefined || then === now) continue;
    throw new OrchestratorError(
      'ERR_CHECKPOINT_MISMATCH',
      `${path} belongs to another text encoder: its ${encoder} is ${then}; that of data.path is ${now}`,
      'Point data.path at the data set of the run that wrote it, or start a new run from its weights (init) in another --run-dir',
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
