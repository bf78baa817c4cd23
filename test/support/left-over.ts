/** What a run may leave behind, whatever has happened to it: its files, and nothing else. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { isAlive } from './launched.js';

/** In the environment of all processes of a run, so that none is overlooked. */
const MARK = 'TEST_RUN';

/** Variables for a run whose processes are to be found again, and whose temporary files are its own. */
export function marked(runDir: string, temporary: string): Record<string, string> {
  return { [MARK]: runDir, TMPDIR: temporary };
}

/**
 * Expects that no process of a marked run lives, and with them no abstract socket and no shared memory, which the kernel
 * frees with the last of them; and that there is no lock, no temporary file, no core and no unfinished checkpoint.
 */
export async function expectNothingLeft(runDir: string, temporary: string): Promise<void> {
  await expect.poll(() => processesOf(runDir)).toEqual([]);
  expect(existsSync(join(runDir, 'lock'))).toBe(false);
  expect(readdirSync(temporary)).toEqual([]);
  expect(readdirSync('.').filter((name) => /^core(\.\d+)?$/.test(name))).toEqual([]);
  const names = readdirSync(runDir, { recursive: true, withFileTypes: true });
  expect(names.filter((one) => !one.isFile() && !one.isDirectory()).map(({ name }) => name)).toEqual([]);
  expect(readdirSync(join(runDir, 'checkpoints')).filter((name) => !/^step-\d{8}$/.test(name))).toEqual([]);
}

function processesOf(runDir: string): number[] {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  const isOf = (pid: string) => {
    try {
      return readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').includes(`${MARK}=${runDir}`);
    } catch {
      return false; // it has ended, or is another user's
    }
  };
  return pids.filter(isOf).map(Number).filter(isAlive);
}
