/** The run folder: its contents, and how it is prepared before a run starts or resumes. */
import { accessSync, constants, statSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { stringify } from 'yaml';
import { CHECKPOINTS, resolveResume } from '../checkpoint/resume.js';
import { listCheckpoints, recoverStore, setAsideLater } from '../checkpoint/retention.js';
import { parseStored } from '../config/earlier.js';
import type { Config } from '../config/schema.js';
import { leaves } from '../config/value.js';
import { OrchestratorError } from '../errors.js';
import { isOpenToAll, makeFolders, syncFolder, systemFailure, writeFailure } from '../files/io.js';
import type { Mapping } from '../files/json.js';
import { damageOf, JsonlFile, leadingLines } from '../files/jsonl.js';
import { lockFile } from '../files/lock.js';

export type RunDir = Awaited<ReturnType<typeof openRunDir>>;

/**
 * Locks the run folder, cleans up after killed processes, finds the checkpoint to resume from, and cuts the
 * ledger and the metrics back to its step, so that each step is recorded once.
 *
 * @param resume "auto", "never" or a path.
 * @param configFor The run's configuration, given that of the checkpoint.
 */
export async function openRunDir(path: string, resume: string, configFor: (stored: Config | null) => Config) {
  await makeWritable(path);
  const unlock = lockFile(join(path, 'lock'));
  try {
    return { ...(await prepare(path, resume, configFor)), path, unlock };
  } catch (error) {
    unlock();
    throw error;
  }
}

async function prepare(path: string, resume: string, configFor: (stored: Config | null) => Config) {
  const checkpoints = join(path, CHECKPOINTS);
  /** Messages about what was found and done. */
  const notes = await recoverStore(checkpoints);
  /** The checkpoint to resume from; null = start at step 1. */
  const found = await resolveResume(resume, path);
  // Without a checkpoint, or with one from another folder, this is a new run.
  const own = found !== null && dirname(resolve(found.path)) === resolve(checkpoints);
  if (!own) await refuseToOverwrite(path, checkpoints);
  const warnings = (found?.damaged ?? []).map(
    ({ reason }) => `damaged checkpoint, not used: ${reason}; ${found!.path} is used instead`,
  );
  const step = found?.manifest.step ?? 0;
  const stored = found && parseStored(found.manifest.config, 'the config in the checkpoint');
  const config = configFor(stored);
  if (found !== null && stored !== null) {
    notes.push(`resuming from ${found.path} (step ${step})`, ...changedKeys(stored, config));
    // The ledger is cut back to this step, so later checkpoints no longer belong to this run.
    const renamed = await setAsideLater(checkpoints, step);
    notes.push(...renamed.map((other) => `later checkpoint renamed: ${other}`));
  }
  // The lines of a run that ended before its first checkpoint are not of this one.
  const recorded = own ? step : 0;
  const open = (name: string, keep: (line: Mapping) => boolean) => {
    const file = join(path, name);
    const leading = leadingLines(file, keep);
    const damage = damageOf(file, leading);
    if (damage !== null) warnings.push(damage);
    const opened = new JsonlFile(file);
    opened.cutTo(leading.bytes);
    return opened;
  };
  const upTo = (line: Mapping) => typeof line.step === 'number' && line.step <= recorded;
  let lastStep = 0;
  /** The row numbers of every slot of each committed step. */
  const ledger = open('ledger.jsonl', (line) => {
    if (!upTo(line)) return false;
    lastStep = line.step as number;
    return true;
  });
  if (lastStep < recorded) {
    warnings.push(
      `${ledger.path} ends at step ${lastStep}, before the checkpoint: the rows of the steps up to ${recorded} are not in it. Training is not affected`,
    );
  }
  const metrics = open('metrics.jsonl', upTo);
  let lastGeneration = 0;
  /** Generations and durable steps. */
  const journal = open('journal.jsonl', ({ generation }) => {
    if (typeof generation === 'number') lastGeneration = Math.max(lastGeneration, generation);
    return true;
  });
  writeConfig(path, config);
  await syncFolder(path);
  return { config, ledger, metrics, journal, lastGeneration, resume: found, notes, warnings };
}

async function makeWritable(path: string): Promise<void> {
  try {
    await makeFolders(path);
    if (!statSync(path).isDirectory()) throw new Error('it is a file, not a folder');
    accessSync(path, constants.W_OK | constants.X_OK);
    if (isOpenToAll(statSync(path)))
      throw new Error('it is the folder of another user, and everybody may write in it');
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
function changedKeys(stored: Config, config: Config): string[] {
  const flat = (of: Config) =>
    new Map([...leaves(of)].map(({ path, value }) => [path.join('.'), JSON.stringify(value)]));
  const [old, now] = [flat(stored), flat(config)];
  const text = (values: typeof old, key: string) => values.get(key) ?? 'absent';
  return [...new Set([...old.keys(), ...now.keys()])]
    .filter((key) => old.get(key) !== now.get(key))
    .map((key) => `${key} was ${text(old, key)} in the checkpoint and is ${text(now, key)} now`);
}
