/** Disks that fail, for runs of the compiled program: a library that is preloaded into their processes. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { vi } from 'vitest';
import { temporaryFolder } from './folders.js';

const LIBRARY = join(temporaryFolder(), 'faulty-disk.so');

function compile(): string | null {
  try {
    const source = 'test/support/faulty-disk.c';
    execFileSync('gcc', ['-shared', '-fPIC', '-O1', '-o', LIBRARY, source, '-ldl'], { stdio: 'pipe' });
    return null;
  } catch (error) {
    return `needs gcc, which says ${String((error as { stderr?: Buffer }).stderr ?? error).split('\n')[0]}`;
  }
}

/** Why there can be no faulty disk; null where there can. */
export const noFaultyDisk = compile();

/**
 * Until vi.unstubAllEnvs, files of new processes whose path contains `part` fail in this way (see
 * faulty-disk.c): EIO = they cannot be flushed; slow = that waits until the file `release` exists; flips = they
 * do not hold what was written.
 */
export function faultyDisk(part: string, fault: 'EIO' | 'slow' | 'flips', release = ''): void {
  vi.stubEnv('LD_PRELOAD', LIBRARY);
  vi.stubEnv('DISK_PATH', part);
  vi.stubEnv('DISK_FAULT', fault);
  vi.stubEnv('DISK_RELEASE', release);
}
