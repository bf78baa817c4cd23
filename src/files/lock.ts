/** A lock file, so that only one run at a time uses a run folder. */
import { readFileSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { OrchestratorError } from '../errors.js';
import { errnoOf, systemFailure, textOrNull } from './io.js';
import { isMapping } from './json.js';

export interface Owner {
  pid: number;
  /** Start of the process in clock ticks since boot, because a process id is reused. */
  started: string | null;
}

/**
 * Takes the lock, replacing that of a dead process, and returns the function that releases it. It is also
 * released by process.exit().
 */
export function lockFile(path: string): () => void {
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      const owner: Owner = { pid: process.pid, started: startOf(process.pid) };
      writeFileSync(path, JSON.stringify(owner), { flag: 'wx' });
      const unlock = () => {
        process.off('exit', unlock);
        rmSync(path, { force: true });
      };
      process.on('exit', unlock);
      return unlock;
    } catch (error) {
      if (errnoOf(error) === 'ENOSPC') rmSync(path, { force: true });
      if (errnoOf(error) !== 'EEXIST') {
        const hint = 'Use a --run-dir on a disk that can be written to';
        throw systemFailure('ERR_RUN_DIR', 'write', path, error, hint);
      }
    }
    const owner = lockOwner(path);
    if (owner !== null) {
      throw lockHeld(path, owner);
    }
    unlinkSync(path);
  }
  throw new OrchestratorError('ERR_RUN_LOCKED', `${path} is being taken by other processes`);
}

export function lockHeld(path: string, { pid }: Owner): OrchestratorError {
  return new OrchestratorError(
    'ERR_RUN_LOCKED',
    `${path} is held by process ${pid}`,
    `Wait for that run, end it with \`orchestrator stop ${dirname(path)}\`, or use another --run-dir`,
  );
}

/** The living process that holds a lock, or null. */
export function lockOwner(path: string): Owner | null {
  const owner = readOwner(path);
  return owner !== null && isAlive(owner) ? owner : null;
}

/**
 * The owner of a lock, or null if there is none, or if it was killed while writing the lock. A signal to a process
 * id below 1 would reach many processes.
 */
function readOwner(path: string): Owner | null {
  try {
    const found: unknown = JSON.parse(readFileSync(path, 'utf8'));
    if (!isMapping(found) || !Number.isSafeInteger(found.pid) || (found.pid as number) < 1) return null;
    return { pid: found.pid as number, started: typeof found.started === 'string' ? found.started : null };
  } catch {
    return null;
  }
}

/** Whether a process with this id exists, also another user's. */
export function processExists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errnoOf(error) !== 'ESRCH';
  }
}

export function isAlive(owner: Owner): boolean {
  if (!processExists(owner.pid)) return false;
  const started = startOf(owner.pid);
  return started === null || owner.started === null || started === owner.started;
}

/**
 * When a process started, or null where that is unknown; '' for a zombie, which holds no lock, because it
 * differs from every start time.
 */
function startOf(pid: number): string | null {
  const { state, started } = statOf(pid);
  return state === 'Z' ? '' : (started ?? null);
}

/** The process that started the owner of a lock, if it is suspended, as by Ctrl-Z; otherwise null. */
export function suspendedParent({ pid }: Owner): number | null {
  const parent = Number(statOf(pid).parent ?? 0);
  return parent > 1 && statOf(parent).state === 'T' ? parent : null;
}

/** Fields 3, 4 and 22 of /proc/PID/stat, where there is such a file. */
function statOf(pid: number) {
  const stat = textOrNull(`/proc/${pid}/stat`);
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ') ?? [];
  return { state: fields[0], parent: fields[1], started: fields[19] };
}
