/** Files: whole reads and writes, durability, and the system's errors in words. */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { OrchestratorError } from '../errors.js';

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
  EEXIST: 'it exists already',
  EISDIR: 'it is a folder',
  ENOTDIR: 'a part of its path is not a folder',
};

const HINTS: Record<string, string> = {
  ENOSPC: 'Free some space, or lower checkpoint.keep, and resume the run.',
  EDQUOT: 'Free some space, or lower checkpoint.keep, and resume the run.',
  EFBIG: 'Raise the limit (ulimit -f unlimited), and resume the run.',
  EROFS: 'Choose another folder with --run-dir.',
  EACCES: 'Give this user write access, or choose another folder with --run-dir.',
};

/** What the system said, in words. */
export function reasonOf(error: unknown): string {
  const code = errnoOf(error);
  if (code !== null) return `${REASONS[code] ?? (error as Error).message} (${code})`;
  return error instanceof Error ? error.message : String(error);
}

/** An error of writing at `path`; one that is already in words passes through. */
export function writeFailure(path: string, error: unknown): OrchestratorError {
  if (error instanceof OrchestratorError) return error;
  const hint = HINTS[errnoOf(error) ?? ''];
  return new OrchestratorError('ERR_FILE_WRITE', `${path} cannot be written: ${reasonOf(error)}.`, {
    cause: error,
    ...(hint === undefined ? {} : { hint }),
  });
}

/** @throws OrchestratorError ERR_FILE_OPEN, also where the path is not a regular file. */
export async function openForReading(path: string): Promise<{ handle: FileHandle; size: number }> {
  let handle: FileHandle;
  try {
    // Non-blocking, or a named pipe would hang here.
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw new OrchestratorError('ERR_FILE_OPEN', `${path} cannot be opened: ${reasonOf(error)}.`, {
      cause: error,
    });
  }
  const stat = await handle.stat();
  if (stat.isFile()) return { handle, size: stat.size };
  await handle.close();
  throw new OrchestratorError('ERR_FILE_OPEN', `${path} is not a regular file.`);
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
      throw new OrchestratorError(
        'ERR_FILE_TRUNCATED',
        `${path} cannot be read at byte ${position + done}: ${reasonOf(error)}.`,
        { cause: error },
      );
    }
    if (bytesRead === 0) {
      throw new OrchestratorError(
        'ERR_FILE_TRUNCATED',
        `${path} ended at byte ${position + done} while it was read.`,
      );
    }
    done += bytesRead;
  }
}

/** Throws the system's error as it is. */
export async function writeFully(handle: FileHandle, from: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < from.length; ) {
    const { bytesWritten } = await handle.write(from, done, from.length - done, position + done);
    done += bytesWritten;
  }
}

/** Makes a folder's entries durable. */
export async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Writes a new file durably. */
export async function writeDurably(path: string, text: string): Promise<void> {
  const handle = await open(path, 'wx', 0o644);
  try {
    await writeFully(handle, Buffer.from(text), 0);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** A name that no other process has. */
export function uniqueSuffix(): string {
  return `${process.pid}-${randomBytes(4).toString('hex')}`;
}

/**
 * Lets `write` make a file beside `path`, and puts it in the place of `path` when it is complete.
 *
 * @throws OrchestratorError ERR_FILE_WRITE; then `path` is as it was, and nothing is left beside it.
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
