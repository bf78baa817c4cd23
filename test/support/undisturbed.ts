/** Runs that nothing disturbs, with which tests compare others: each is trained once for all test files. */
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, inject } from 'vitest';
import { launch, type Outcome } from './launched.js';

interface Undisturbed {
  /** Others read it at the same time: who launches in it, or writes to it, takes a copy. */
  readonly runDir: string;
  /** What it printed. */
  readonly output: string;
}

/** The run of one worker with the configuration of the tests and these flags. */
export async function undisturbed(...flags: string[]): Promise<Undisturbed> {
  const name = createHash('sha256').update(JSON.stringify(flags)).digest('hex').slice(0, 16);
  const runDir = join(inject('sharedFolder'), name);
  const ended = `${runDir}.json`;
  if (isFirst(`${runDir}.begun`)) {
    const outcome = await launch(runDir, 1, ...flags);
    writeFileSync(`${ended}.partial`, JSON.stringify(outcome));
    renameSync(`${ended}.partial`, ended);
  }
  while (!existsSync(ended)) await sleep(20);
  const { code, output } = JSON.parse(readFileSync(ended, 'utf8')) as Outcome;
  expect(code, output).toBe(0);
  return { runDir, output };
}

/** A copy of such a run. */
export async function copyOfUndisturbed(runDir: string, ...flags: string[]): Promise<Undisturbed> {
  const { runDir: from, output } = await undisturbed(...flags);
  cpSync(from, runDir, { recursive: true });
  return { runDir, output };
}

/** Whether this process is the first to come, if several come at once. */
function isFirst(path: string): boolean {
  try {
    mkdirSync(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}
