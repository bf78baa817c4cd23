/** One run at a time in a run folder. */
import { readFileSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { OrchestratorError } from '../errors.js';

interface Owner {
  pid: number;
  /** Start of the process in clock ticks since boot: a pid alone may be somebody else's by now. */
  started: string | null;
}

/** Takes the lock, replacing that of a dead process. Returns the function that gives it back. */
export function lockFile(path: string): () => void {
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      const owner: Owner = { pid: process.pid, started: startOf(process.pid) };
      writeFileSync(path, JSON.stringify(owner), { flag: 'wx' });
      return () => unlinkSync(path);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOSPC') rmSync(path, { force: true });
      if (code !== 'EEXIST') throw cannotLock(path, error as Error);
    }
    const owner = readOwner(path);
    if (owner !== null && isAlive(owner)) {
      throw new OrchestratorError('ERR_RUN_LOCKED', `${path} is held by process ${owner.pid}`, {
        hint: 'Wait for that run, stop it, or use another --run-dir.',
      });
    }
    unlinkSync(path);
  }
  throw new OrchestratorError('ERR_RUN_LOCKED', `${path} is being taken by other processes`);
}

/** Null for a lock whose owner was killed while writing it. */
function readOwner(path: string): Owner | null {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Owner;
  } catch {
    return null;
  }
}

function isAlive(owner: Owner): boolean {
  try {
    process.kill(owner.pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  const started = startOf(owner.pid);
  return started === null || owner.started === null || started === owner.started;
}

/** Field 22 of /proc/PID/stat, or null where there is no such file. A zombie holds nothing: '' differs from any start. */
function startOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? '' : (fields[19] ?? null);
  } catch {
    return null;
  }
}

function cannotLock(path: string, error: Error): OrchestratorError {
  return new OrchestratorError('ERR_RUN_DIR', `Cannot write ${path}: ${error.message}`, {
    hint: 'Use a --run-dir on a disk that can be written to.',
    cause: error,
  });
}
