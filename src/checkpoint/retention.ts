/** Keeps and removes the checkpoints of a run, and cleans up after a killed process. */
import { existsSync, readdirSync, renameSync } from 'node:fs';
import { readdir, rename, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { errnoOf, readFailure, syncFolder, syncFolderNow, uniqueSuffix } from '../files/io.js';
import { processExists } from '../files/processes.js';
import { PARTIAL, REPLACED, stagedIn, stepOfName } from './store.js';

/** Names in a run's `checkpoints` folder; none if there is no such folder. */
async function entries(root: string): Promise<string[]> {
  return await readdir(root).catch((error) => {
    if (errnoOf(error) === 'ENOENT') return [];
    throw readFailure('list', root, error);
  });
}

/** The checkpoints of a `checkpoints` folder by name, latest first, without verifying them. */
export async function listCheckpoints(root: string): Promise<{ step: number; path: string }[]> {
  return (await entries(root))
    .flatMap((name) => {
      const step = stepOfName(name);
      return step === null ? [] : [{ step, path: join(root, name) }];
    })
    .sort((a, b) => b.step - a.step);
}

/** The steps of the checkpoints of a folder by name. */
export function checkpointSteps(root: string): number[] {
  return (existsSync(root) ? readdirSync(root) : []).flatMap((name) => stepOfName(name) ?? []);
}

/** Which checkpoints a run keeps. */
export interface Retention {
  /** Number of the latest checkpoints to keep; at least 1. */
  keep: number;
  /** Checkpoints whose step is a multiple of this are kept, too; 0 = none. */
  keepEvery: number;
  /** Whether the checkpoint of the lowest validation loss is kept, too. */
  keepBest: boolean;
}

/** The step of the lowest loss among `steps`, the earliest of several; null without a loss. */
export function bestStep(steps: readonly number[], losses: ReadonlyMap<number, number>): number | null {
  const validated = steps.filter((step) => losses.has(step)).sort((a, b) => a - b);
  if (validated.length === 0) return null;
  return validated.reduce((best, step) => (losses.get(step)! < losses.get(best)! ? step : best));
}

/**
 * Removes the checkpoints that are not to be kept any longer. Those of later steps than the newest, which a
 * run meets that was resumed from an earlier step, are not touched.
 *
 * @param newest step of the checkpoint just published. It is validated only later.
 * @param losses of the validations so far, by step.
 */
export async function retainCheckpoints(
  root: string,
  { keep, keepEvery, keepBest }: Retention,
  newest: number,
  losses: ReadonlyMap<number, number>,
) {
  const older = (await listCheckpoints(root)).filter(({ step }) => step < newest);
  const steps = older.map(({ step }) => step);
  const best = keepBest ? bestStep(steps, losses) : null;
  for (const { step, path } of older.slice(keep - 1)) {
    const milestone = keepEvery > 0 && step % keepEvery === 0;
    if (!milestone && step !== best) await removeCheckpoint(root, path);
  }
}

/** Removes checkpoints of a run that nobody runs, by their steps. */
export async function removeCheckpoints(root: string, removes: (step: number) => boolean): Promise<void> {
  for (const { step, path } of await listCheckpoints(root)) {
    if (removes(step)) await removeCheckpoint(root, path);
  }
}

/** Renames the folder first, so that a folder with a final name is always complete. */
async function removeCheckpoint(root: string, path: string): Promise<void> {
  const doomed = join(root, `${PARTIAL}${basename(path)}-${uniqueSuffix()}`);
  await rename(path, doomed);
  await syncFolder(root);
  await rm(doomed, { recursive: true, force: true });
}

/**
 * Renames checkpoints of later steps than the one from which a run resumes to `superseded-step-...`, so that
 * they are not mistaken for the run's own. They are damaged, or belong to a future that the user abandoned
 * with --resume PATH. Nothing is deleted. The latest is renamed first, so that a kill in between leaves the
 * earlier ones, from which the run can be resumed.
 *
 * @returns the new paths.
 */
export function setAsideLater(root: string, step: number): string[] {
  const later = (existsSync(root) ? readdirSync(root) : [])
    .filter((name) => (stepOfName(name) ?? 0) > step)
    .sort()
    .reverse();
  const renamed = later.map((name) => {
    const path = join(root, `superseded-${name}-${uniqueSuffix()}`);
    renameSync(join(root, name), path);
    return path;
  });
  if (renamed.length > 0) syncFolderNow(root);
  return renamed;
}

/** Removes checkpoints that are staged or being written, by their steps and the names of their folders. */
export async function removeStaged(
  root: string,
  removes: (step: number, name: string) => boolean,
): Promise<void> {
  for (const name of await entries(root)) {
    const staged = stagedIn(name);
    if (staged === null || !removes(staged.step, name)) continue;
    await rm(join(root, name), { recursive: true, force: true });
  }
}

/**
 * Cleans up after a killed process: removes partly written and partly removed folders, and restores a
 * checkpoint whose replacement was not completed. Only the process that owns the run may call it, when the
 * run starts.
 *
 * @param spares Whether a checkpoint stays that a process of this machine is writing, which may be a worker that has
 *   outlived its coordinator.
 * @returns a line for each action.
 */
export async function recoverStore(root: string, spares = false): Promise<string[]> {
  const names = await entries(root);
  const done: string[] = [];
  for (const name of names) {
    const path = join(root, name);
    if (name.startsWith(REPLACED)) {
      const original = /^(step-\d+)-/.exec(name.slice(REPLACED.length))?.[1];
      if (original !== undefined && !names.includes(original)) {
        await rename(path, join(root, original));
        names.push(original);
        done.push(`restored ${original}, because its replacement was not completed`);
        continue;
      }
    } else if (!name.startsWith(PARTIAL)) continue;
    const writer = spares ? (stagedIn(name)?.pid ?? null) : null;
    if (writer !== null && writer !== process.pid && processExists(writer)) continue;
    await rm(path, { recursive: true, force: true });
    done.push(`removed the leftover ${name}`);
  }
  if (done.length > 0) await syncFolder(root);
  return done;
}
