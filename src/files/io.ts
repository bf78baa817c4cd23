/** File input and output: complete reads and writes, durability, and the system's errors in words. */
import { randomBytes } from 'node:crypto';
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  openSync,
  readFileSync,
  type Stats,
  statSync,
} from 'node:fs';
import { type FileHandle, mkdir, open, rename, rm, statfs } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { type ErrorCode, OrchestratorError } from '../errors.js';

/** The system's error code ("ENOSPC"), or null. */
export function errnoOf(error: unknown): string | null {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  return typeof code === 'string' && /^E[A-Z0-9]+$/.test(code) ? code : null;
}

const REASONS: Record<string, string> = {
  ENOSPC: 'no space is left on the device',
  EDQUOT: 'the disk quota is exceeded',
  EFBIG: 'the file would exceed the largest size allowed (ulimit -f)',
  EROFS: 'the file system is read-only',
  EACCES: 'permission is denied',
  EPERM: 'the operation is not permitted',
  EIO: 'the device reports an input/output error',
  EMFILE: 'too many files are open (ulimit -n)',
  ENOENT: 'it does not exist',
  EEXIST: 'it already exists',
  EISDIR: 'it is a folder',
  ENOTDIR: 'a part of its path is not a folder',
  ELOOP: 'it is a symbolic link',
};

/** What to do about a failed write, whether of a run or of another command. */
const FULL = 'Free some space; a run needs less with a lower checkpoint.keep, and can be resumed';
const HINTS: Record<string, string> = {
  ENOSPC: FULL,
  EDQUOT: FULL,
  EFBIG: 'Raise the limit (ulimit -f unlimited); a run can then be resumed',
  EROFS: 'Choose another folder (for a run: with --run-dir)',
  EACCES: 'Give this user write access, or choose another folder (for a run: with --run-dir)',
};

/** The reason for a system error, in words: "it does not exist (ENOENT)". */
export function reasonOf(error: unknown): string {
  const code = errnoOf(error);
  if (code !== null) return `${REASONS[code] ?? (error as Error).message} (${code})`;
  return error instanceof Error ? error.message : String(error);
}

/** The error for what the system refuses: "Cannot read FILE: it does not exist (ENOENT)". */
export function systemFailure(
  code: ErrorCode,
  action: string,
  path: string,
  cause: unknown,
  hint: string | null = null,
): OrchestratorError {
  return new OrchestratorError(code, `Cannot ${action} ${path}: ${reasonOf(cause)}`, { hint, cause });
}

/** The error for a failed write at `path`; an OrchestratorError is passed through. */
export function writeFailure(path: string, error: unknown): OrchestratorError {
  if (error instanceof OrchestratorError) return error;
  return systemFailure('ERR_FILE_WRITE', 'write', path, error, HINTS[errnoOf(error) ?? ''] ?? null);
}

/** The error for a failed attempt to open, read or list `path`. */
export function readFailure(
  action: 'open' | 'read' | 'list',
  path: string,
  error: unknown,
): OrchestratorError {
  return systemFailure('ERR_FILE_OPEN', action, path, error);
}

/** The error for bytes of an open file that the system does not deliver. */
export function unreadable(path: string, position: number, error: unknown): OrchestratorError {
  return systemFailure('ERR_FILE_TRUNCATED', 'read', `${path} at byte ${position}`, error);
}

/** The error for a path that is a folder, a pipe or a device. */
export function notRegular(path: string): OrchestratorError {
  return new OrchestratorError('ERR_FILE_OPEN', `${path} is not a regular file`);
}

/** The text of a file, or null where it cannot be read, for what the system may tell in /proc and /sys. */
export function textOrNull(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}

/** Opens a file, which must be a regular one, and returns it with its size. */
export async function openForReading(path: string): Promise<{ handle: FileHandle; size: number }> {
  let handle: FileHandle;
  try {
    // The open is non-blocking, because a named pipe would hang here.
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw readFailure('open', path, error);
  }
  const stat = await handle.stat();
  if (stat.isFile()) return { handle, size: stat.size };
  await handle.close();
  throw notRegular(path);
}

/**
 * Opens a file for reading and appending, and creates it if it is missing. A symbolic link is refused: whoever
 * else can write in the folder might have put it there, to have another file of this user changed.
 */
export function openForAppending(path: string): number {
  const { O_RDWR, O_APPEND, O_CREAT, O_NOFOLLOW } = constants;
  return openSync(path, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW);
}

/**
 * Whether a folder of another user than root may be written in by everybody, so that anybody may replace what a
 * program is about to change there. A folder shared with a group, or of a mounted volume, is not such a folder.
 */
export function isOpenToAll({ uid, mode }: Pick<Stats, 'uid' | 'mode'>, user = process.geteuid?.() ?? 0) {
  return uid !== user && uid !== 0 && user !== 0 && (mode & constants.S_IWOTH) !== 0;
}

/** Reads a small file whole. `tooLarge` makes the error for a file of more than `maxBytes`. */
export async function readWhole(
  path: string,
  maxBytes: number,
  tooLarge: (bytes: number) => OrchestratorError,
): Promise<Uint8Array> {
  const { handle, size } = await openForReading(path);
  try {
    if (size > maxBytes) throw tooLarge(size);
    const bytes = new Uint8Array(size);
    await readFully(handle, bytes, 0, path);
    return bytes;
  } finally {
    await handle.close();
  }
}

/** Fills `into` from the file's bytes at `position`. */
export async function readFully(
  handle: FileHandle,
  into: Uint8Array,
  position: number,
  path: string,
): Promise<void> {
  for (let done = 0; done < into.length; ) {
    let bytesRead: number;
    try {
      ({ bytesRead } = await handle.read(into, done, into.length - done, position + done));
    } catch (error) {
      throw unreadable(path, position + done, error);
    }
    if (bytesRead === 0) {
      throw new OrchestratorError(
        'ERR_FILE_TRUNCATED',
        `${path} ended at byte ${position + done} while it was being read`,
      );
    }
    done += bytesRead;
  }
}

/** A part of a file, and the memory for it. */
export interface Piece {
  position: number;
  into: Uint8Array;
}

/**
 * Reads the pieces of a file in their order, and calls `use` with each while the next one is read. So the memory
 * of a piece must not be that of the next.
 */
export async function readEach(
  handle: FileHandle,
  pieces: Iterable<Piece>,
  path: string,
  use: (piece: Uint8Array) => void,
): Promise<void> {
  const rest = pieces[Symbol.iterator]();
  const begin = () => {
    const { value, done } = rest.next();
    if (done) return null;
    const reading = readFully(handle, value.into, value.position, path).then(() => value.into);
    reading.catch(() => {}); // it is awaited later, or not at all if `use` throws
    return reading;
  };
  for (let reading = begin(); reading !== null; ) {
    const piece = await reading;
    reading = begin();
    use(piece);
  }
}

/** Writes all of `from` at `position`. A failure is thrown as the system's own error. */
export async function writeFully(handle: FileHandle, from: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < from.length; ) {
    const { bytesWritten } = await handle.write(from, done, from.length - done, position + done);
    done += bytesWritten;
  }
}

/** What the system says where folders cannot be flushed: one that may not be read, some network file systems. */
const NOT_FLUSHED = ['EACCES', 'EINVAL', 'EBADF'];

function tolerateUnflushed(error: unknown): void {
  if (!NOT_FLUSHED.includes(errnoOf(error) ?? '')) throw error;
}

/**
 * Flushes a folder to disk, so that names created, renamed or removed in it survive a power cut. Where the
 * system cannot flush the folder, this does nothing.
 */
export async function syncFolder(path: string): Promise<void> {
  let handle: FileHandle | null = null;
  try {
    handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
    await handle.sync();
  } catch (error) {
    tolerateUnflushed(error);
  } finally {
    await handle?.close();
  }
}

/** The same, where nothing else may happen meanwhile. */
export function syncFolderNow(path: string): void {
  let fd: number | null = null;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
    fsyncSync(fd);
  } catch (error) {
    tolerateUnflushed(error);
  } finally {
    if (fd !== null) closeSync(fd);
  }
}

/** Writes a new file and flushes it to disk. */
export async function writeDurably(path: string, content: string | Uint8Array): Promise<void> {
  const handle = await open(path, 'wx', 0o644);
  try {
    await writeFully(handle, typeof content === 'string' ? Buffer.from(content) : content, 0);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Creates a folder and its missing parents, so that they survive a power cut. One call for each, because a
 * recursive one never returns in /proc, where nothing can be made.
 *
 * @returns those that it created, the outermost first.
 */
export async function makeFolders(path: string): Promise<string[]> {
  const made: string[] = [];
  const missing: string[] = [];
  for (let folder = resolve(path); !existsSync(folder); folder = dirname(folder)) missing.unshift(folder);
  for (const folder of missing) {
    try {
      await mkdir(folder);
      made.push(folder);
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error; // another process may make it at the same time
    }
    await syncFolder(dirname(folder));
  }
  return made;
}

/** Refuses a path at which no file can be written, before the work for it is done. */
export function requireWritable(path: string): void {
  let folder = dirname(resolve(path));
  while (!existsSync(folder)) folder = dirname(folder);
  try {
    if (existsSync(path) && statSync(path).isDirectory()) throw new Error('it is a folder');
    if (!statSync(folder).isDirectory()) throw new Error(`${folder} is a file, not a folder`);
    accessSync(folder, constants.W_OK | constants.X_OK);
  } catch (error) {
    throw writeFailure(path, error);
  }
}

/** Free bytes of the disk of a path, or of its nearest parent that exists; null where it has no size. */
export async function freeBytes(path: string): Promise<number | null> {
  let folder = resolve(path);
  while (!existsSync(folder)) folder = dirname(folder);
  const { blocks, bavail, bsize } = await statfs(folder);
  return blocks === 0 ? null : bavail * bsize;
}

/** A suffix that makes a file name unique across processes. */
export function uniqueSuffix(): string {
  return `${process.pid}-${randomBytes(4).toString('hex')}`;
}

/**
 * Calls `write` to make a temporary file next to `path`, then renames it to `path`, so that `path` is never
 * incomplete. On an error `path` is unchanged, and no temporary file remains.
 */
export async function replaceFile<T>(path: string, write: (temporary: string) => Promise<T>): Promise<T> {
  const temporary = `${path}.tmp-${uniqueSuffix()}`;
  try {
    const result = await write(temporary);
    await rename(temporary, path);
    await syncFolder(dirname(path));
    return result;
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {});
    throw writeFailure(path, error);
  }
}

/**
 * Calls `fill` to make the files of the new folder `temporary`, each of them durable, then renames the folder
 * to `path`, so that `path` is never incomplete. An existing folder is replaced only if it is empty. On an
 * error nothing remains.
 */
export async function createFolder<T>(path: string, temporary: string, fill: () => Promise<T>): Promise<T> {
  try {
    await makeFolders(dirname(temporary));
    await mkdir(temporary);
    const result = await fill();
    await syncFolder(temporary);
    await rename(temporary, resolve(path));
    await syncFolder(dirname(resolve(path)));
    return result;
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => {});
    throw errnoOf(error) === null ? error : writeFailure(path, error);
  }
}
