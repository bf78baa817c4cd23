/** Disks that fail, for runs of the compiled program: a library that is preloaded into their processes. */
import { vi } from 'vitest';
import { preloaded } from './preloaded.js';

const { library, missing } = preloaded('faulty-disk');

/** Why there can be no faulty disk; null where there can. */
export const noFaultyDisk = missing;

/**
 * Until vi.unstubAllEnvs, files of new processes whose path contains `part` fail in this way (see
 * faulty-disk.c): EIO = they cannot be flushed; slow = that waits until the file `release` exists; flips = they
 * do not hold what was written.
 */
export function faultyDisk(part: string, fault: 'EIO' | 'slow' | 'flips', release = ''): void {
  vi.stubEnv('LD_PRELOAD', library);
  vi.stubEnv('DISK_PATH', part);
  vi.stubEnv('DISK_FAULT', fault);
  vi.stubEnv('DISK_RELEASE', release);
}
