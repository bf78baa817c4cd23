/** The run folder: its contents, and how it is prepared before a run starts or resumes. */
import { accessSync, constants, statSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { stringify } from 'yaml';
import { CHECKPOINTS, resolveResume } from '../checkpoint/resume.js';
import { listCheckpoints, recoverStore, setAsideLater } from '../checkpoint/retention.js';
import { parseConfig } from '../config/load.js';
import type { Config } from '../config/schema.js';
import { leaves } from '../config/value.js';
import { OrchestratorError } from '../errors.js';
import { makeFolders, systemFailure, writeFailure } from '../files/io.js';
import { JsonlFile } from '../files/jsonl.js';
import { lockFile } from '../files/lock.js';

export type RunDir = Awaited<ReturnType<typeof openRunDir>>;

/**
 * Locks the run folder, cleans up after killed processes, finds the checkpoint to resume from, and cuts the
 * ledger and the metrics back to its step, so that each step is recorded once.
 *
 * @param resume "auto", "never" or a path.
 */
export async function openRunDir(path: string, resume: string, config: Config) {
  await makeWritable(path);
  const unlock = lockFile(join(path, 'lock'));
  try {
    return { ...(await prepare(path, resume, config)), path, unlock };
  } catch (error) {
    unlock();
    throw error;
  }
}

async function prepare(path: string, resume: string, config: Config) {
  const checkpoints = join(path, CHECKPOINTS);
  /** Messages about what was found and done. */
  const notes = await recoverStore(checkpoints);
  /** The checkpoint to resume from; null = start at step 1. */
  const found = await resolveResume(resume, path);
  // Without a checkpoint, or with one from another folder, this is a new run.
  const own = found !== null && dirname(resolve(found.path)) === resolve(checkpoints);
  if (!own) await refuseToOverwrite(path, checkpoints);
  for (const { reason } of found?.damaged ?? []) notes.push(`damaged checkpoint, not used: ${reason}`);
  const step = found?.manifest.step ?? 0;
  if (found !== null) {
    notes.push(`resuming from ${found.path} (step ${step})`, ...changedKeys(found.manifest.config, config));
    // The ledger is cut back to this step, so later checkpoints no longer belong to this run.
    const renamed = await setAsideLater(checkpoints, step);
    notes.push(...renamed.map((other) => `later checkpoint renamed: ${other}`));
  }
  /** The row numbers of every slot of each committed step. */
  const ledger = new JsonlFile(join(path, 'ledger.jsonl'));
  const metrics = new JsonlFile(join(path, 'metrics.jsonl'));
  /** Generations and durable steps. */
  const journal = new JsonlFile(join(path, 'journal.jsonl'));
  const upTo = (line: Record<string, unknown>) => typeof line.step === 'number' && line.step <= step;
  ledger.cutBack(upTo);
  metrics.cutBack(upTo);
  let lastGeneration = 0;
  let startedAt: number | null = null;
  journal.cutBack(({ generation, started_unix_seconds: started, unix_seconds: written }) => {
    if (typeof generation === 'number') lastGeneration = Math.max(lastGeneration, generation);
    if (startedAt === null && typeof (started ?? written) === 'number')
      startedAt = (started ?? written) as number;
    return true;
  });
  writeConfig(path, config);
  /** When the run was started for the first time, in seconds since 1970. */
  const started = startedAt ?? Math.floor(Date.now() / 1000);
  return { ledger, metrics, journal, lastGeneration, started, resume: found, notes };
}

async function makeWritable(path: string): Promise<void> {
  try {
    await makeFolders(path);
    if (!statSync(path).isDirectory()) throw new Error('it is a file, not a folder');
    accessSync(path, constants.W_OK | constants.X_OK);
  } catch (error) {
    const hint = 'Choose another with --run-dir';
    throw systemFailure('ERR_RUN_DIR', 'write in the run folder', path, error, hint);
  }
}

/**
 * Refuses to start a new run in a folder with checkpoints, because retention would eventually remove them.
 */
async function refuseToOverwrite(path: string, checkpoints: string): Promise<void> {
  const [latest] = await listCheckpoints(checkpoints);
  if (latest === undefined) return;
  throw new OrchestratorError(
    'ERR_RUN_DIR',
    `${path} holds checkpoints up to step ${latest.step} already`,
    'Resume from them with --resume auto, start in another --run-dir, or remove the folder',
  );
}

function writeConfig(path: string, config: Config): void {
  const file = join(path, 'config.yaml');
  try {
    writeFileSync(file, stringify(config));
  } catch (error) {
    throw writeFailure(file, error);
  }
}

/** Messages about keys that differ from those in the checkpoint. Other checks refuse what must agree. */
function changedKeys(before: unknown, config: Config): string[] {
  const flat = (of: Config) =>
    new Map([...leaves(of)].map(({ path, value }) => [path.join('.'), JSON.stringify(value)]));
  const stored = parseConfig(JSON.stringify(before), 'the config in the checkpoint');
  const [old, now] = [flat(stored), flat(config)];
  const text = (values: typeof old, key: string) => values.get(key) ?? 'absent';
  return [...new Set([...old.keys(), ...now.keys()])]
    .filter((key) => old.get(key) !== now.get(key))
    .map((key) => `${key} was ${text(old, key)} in the checkpoint and is ${text(now, key)} now`);
}
