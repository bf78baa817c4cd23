/**
 * A lock on a file, so that only one run at a time uses a run folder. The kernel holds it for as long as the
 * process that took it has the file open: it ends with that process, however that ends, and is seen by every
 * process that sees the file, also from other containers of the machine. What the file says is for people, and
 * for `orchestrator stop`. Whether the file systems of networks keep such locks is not tried.
 */
import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { OrchestratorError } from '../errors.js';
import { errnoOf, systemFailure } from '../files/io.js';
import { isMapping } from '../files/json.js';
import { isAlive, type ProcessId, processSpace, thisProcess } from '../files/processes.js';
import { native } from './load.js';

export interface Owner extends ProcessId {
  /** The host on which it runs, where that is another one, or a container that counts processes by itself. */
  elsewhere: string | null;
}

/** Time for a process that has just taken a lock to say who it is. */
const NAME_MS = 1_000;
/** Between two looks at a lock that another process holds. */
const POLL_MS = 10;
/** A lock that is held for a moment: who holds it for longer is suspended, or hangs. */
const MOMENT_MS = 10_000;
const OPEN = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;

/**
 * Takes the lock, and returns the function that releases it.
 *
 * @throws OrchestratorError ERR_RUN_LOCKED if another process holds it, ERR_RUN_DIR if there can be none.
 */
export function lockFile(path: string): () => void {
  for (;;) {
    let file: number | null = null;
    let isOwn = false;
    try {
      file = openSync(path, OPEN, 0o666);
      const taken = native().lockFile(file);
      const former = taken ? legacyOwner(path) : lockOwner(path);
      if (former !== null) throw lockHeld(path, former);
      // Its last owner may have removed it after it was opened.
      if (!taken || !isAt(file, path)) {
        closeSync(file);
        continue;
      }
      isOwn = true;
      ftruncateSync(file);
      writeSync(file, JSON.stringify({ ...thisProcess(), host: hostname(), namespace: processSpace() }), 0);
    } catch (error) {
      if (isOwn) rmSync(path, { force: true });
      if (file !== null) closeSync(file);
      if (error instanceof OrchestratorError) throw error;
      const hint = 'Use a --run-dir on a disk that can be written to';
      throw systemFailure('ERR_RUN_DIR', 'write', path, error, hint);
    }
    return release(path, file);
  }
}

/**
 * Waits until nobody else holds the lock, takes it, and returns the function that releases it: for locks that are
 * held for a moment. They name nobody.
 *
 * @throws OrchestratorError ERR_RUN_LOCKED if it is held for 10 seconds; the system's error if there can be no
 * file, and ERR_SYSTEM if its file system has no locks.
 */
export async function waitForLock(path: string): Promise<() => void> {
  const end = performance.now() + MOMENT_MS;
  for (;;) {
    const isLast = performance.now() > end;
    const file = openSync(path, OPEN, 0o666);
    try {
      if (native().lockFile(file) && isAt(file, path)) return release(path, file);
    } catch (error) {
      closeSync(file);
      throw error;
    }
    closeSync(file);
    if (isLast) {
      const message = `${path} is held by another process for more than ${MOMENT_MS / 1000} s`;
      const hint = `It may be suspended: \`fuser ${path}\` shows its process id; end it, or let it go on`;
      throw new OrchestratorError('ERR_RUN_LOCKED', message, hint);
    }
    await sleep(POLL_MS);
  }
}

/** The file is removed while the lock is held, so that it is never another process's. */
function release(path: string, file: number): () => void {
  let held = true;
  const unlock = () => {
    process.off('exit', unlock);
    if (held) {
      rmSync(path, { force: true });
      closeSync(file);
    }
    held = false;
  };
  process.on('exit', unlock);
  return unlock;
}

export function lockHeld(path: string, { pid, elsewhere }: Owner): OrchestratorError {
  const where = elsewhere === null ? '' : ` of another container or machine (${elsewhere})`;
  const stop =
    elsewhere === null
      ? `end it with \`orchestrator stop ${dirname(path)}\``
      : 'end it there with `orchestrator stop`';
  return new OrchestratorError(
    'ERR_RUN_LOCKED',
    `${path} is held by process ${pid}${where}`,
    `Wait for that run, ${stop}, or use another --run-dir`,
  );
}

/** Who holds a lock, or null. */
export function lockOwner(path: string): Owner | null {
  const end = performance.now() + NAME_MS;
  for (;;) {
    const owner = readOwner(path);
    if (!isLocked(path)) return legacyOwner(path);
    if (owner !== null) return owner;
    if (performance.now() > end) {
      throw new OrchestratorError(
        'ERR_RUN_LOCKED',
        `${path} is held by a process that does not say who it is`,
      );
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, POLL_MS);
  }
}

function isLocked(path: string): boolean {
  try {
    const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      return native().isLocked(file);
    } finally {
      closeSync(file);
    }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
}

/** Who holds a lock in the way of earlier versions, whose only sign was what the file said; or null. */
function legacyOwner(path: string): Owner | null {
  const owner = readOwner(path);
  return owner?.legacy && isAlive(owner) ? owner : null;
}

/** Whom the file names; null: nobody. A signal to a process id below 1 would reach many processes. */
function readOwner(path: string): (Owner & { legacy: boolean }) | null {
  try {
    const found: unknown = JSON.parse(readFileSync(path, 'utf8'));
    if (!isMapping(found) || !Number.isSafeInteger(found.pid) || (found.pid as number) < 1) return null;
    const { pid, started, host, namespace: other } = found;
    const legacy = typeof other !== 'string';
    const isHere = legacy || (host === hostname() && other === processSpace());
    return {
      pid: pid as number,
      started: typeof started === 'string' ? started : null,
      elsewhere: isHere ? null : String(host),
      legacy,
    };
  } catch {
    return null;
  }
}

/** Whether an open file is the one at the path. */
function isAt(file: number, path: string): boolean {
  try {
    const [open, found] = [fstatSync(file), statSync(path)];
    return open.ino === found.ino && open.dev === found.dev;
  } catch {
    return false;
  }
}
