/** Which checkpoints stay. */
import { readdir, rename, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { errnoOf, readFailure, syncFolder, uniqueSuffix } from '../files/io.js';
import { checkpointName, PARTIAL, REPLACED, stepOfName, verifyCheckpoint } from './store.js';

export interface StoredCheckpoint {
  step: number;
  path: string;
}

/** Names in a run's `checkpoints` folder; none where there is no such folder. */
async function entries(root: string): Promise<string[]> {
  try {
    return await readdir(root);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw readFailure('list', root, error);
  }
}

/** The checkpoints of a `checkpoints` folder, latest first; by name only, nothing is verified. */
export async function listCheckpoints(root: string): Promise<StoredCheckpoint[]> {
  return (await entries(root))
    .flatMap((name) => {
      const step = stepOfName(name);
      return step === null ? [] : [{ step, path: join(root, name) }];
    })
    .sort((a, b) => b.step - a.step);
}

/**
 * Removes the oldest checkpoints, once the new one verifies as read back from the disk. Checkpoints of later steps than
 * the new one (a run resumed from an earlier step meets them) are left alone.
 *
 * @param keep how many stay, the new one included.
 * @param newest folder of the checkpoint just written.
 * @returns the folders removed.
 * @throws OrchestratorError ERR_CHECKPOINT_DAMAGED where the new one does not verify; then nothing is removed.
 */
export async function retainCheckpoints(root: string, keep: number, newest: string): Promise<string[]> {
  const { step } = await verifyCheckpoint(newest);
  const older = (await listCheckpoints(root)).filter((checkpoint) => checkpoint.step < step);
  const removed: string[] = [];
  for (const { path } of older.slice(Math.max(keep, 1) - 1)) {
    await removeCheckpoint(root, path);
    removed.push(path);
  }
  return removed;
}

/** Renames first, so that a folder under a final name is never half gone. */
async function removeCheckpoint(root: string, path: string): Promise<void> {
  const doomed = join(root, `${PARTIAL}${basename(path)}-${uniqueSuffix()}`);
  await rename(path, doomed);
  await syncFolder(root);
  await rm(doomed, { recursive: true, force: true });
}

/**
 * Puts renamed the checkpoints of later steps than the one that a run goes on from (damaged ones, or those of a future that
 * the user left with --resume PATH), so that they are not taken for the run's own later on. Nothing is deleted: each is
 * renamed to `superseded-step-...`.
 *
 * @returns the new paths.
 */
export async function setAsideLater(root: string, step: number): Promise<string[]> {
  const renamed: string[] = [];
  for (const checkpoint of await listCheckpoints(root)) {
    if (checkpoint.step <= step) continue;
    const path = join(root, `superseded-${checkpointName(checkpoint.step)}-${uniqueSuffix()}`);
    await rename(checkpoint.path, path);
    renamed.push(path);
  }
  if (renamed.length > 0) await syncFolder(root);
  return renamed;
}

/**
 * Mends what a killed process left: half-written and half-removed folders go; a checkpoint that was put renamed for its
 * successor, which then did not come, is put back. To be called at the start of a run by the one process that owns it.
 *
 * @returns what was done, a line each.
 */
export async function recoverStore(root: string): Promise<string[]> {
  const names = await entries(root);
  const done: string[] = [];
  for (const name of names) {
    const path = join(root, name);
    if (name.startsWith(REPLACED)) {
      const original = /^(step-\d+)-/.exec(name.slice(REPLACED.length))?.[1];
      if (original !== undefined && !names.includes(original)) {
        await rename(path, join(root, original));
        names.push(original);
        done.push(`put back ${original}, whose replacement was not completed`);
        continue;
      }
    } else if (!name.startsWith(PARTIAL)) continue;
    await rm(path, { recursive: true, force: true });
    done.push(`removed the leftover ${name}`);
  }
  if (done.length > 0) await syncFolder(root);
  return done;
}
