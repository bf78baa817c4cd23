/** A run that trains until somebody ends it, and what it must leave then. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { fingerprint, isAlive, Launched, readLines } from './launched.js';
import { PACED } from './paced.js';

/** Without checkpoints but the last, and without end. */
export const LONG = ['schedule.steps=1000000', 'validation.every=0', 'checkpoint.every=0'].flatMap((set) => [
  '--set',
  set,
]);

/** A run of two workers that has committed some steps. */
export async function endlessRun(runDir: string, ...more: string[]) {
  const run = new Launched(runDir, PACED, '--nodes', '2', ...LONG, ...more);
  await run.says('step 3/');
  const pids = { launcher: run.process.pid!, coordinator: run.coordinator(), worker: run.workers()[1]! };
  return { run, runDir, pids, all: [pids.launcher, pids.coordinator, ...run.workers()] };
}

export const send = (pid: number, signal: NodeJS.Signals) => {
  if (isAlive(pid)) process.kill(pid, signal);
};

export const phases = (runDir: string) =>
  readLines(join(runDir, 'run.log')).flatMap(({ phase }) => (phase === undefined ? [] : [phase]));

/** The run has ended in order: stopped, and with a checkpoint of the last step in its records. */
export function expectSaved(runDir: string, output: string): void {
  // Before it, those that are left form a generation where a worker left first.
  expect(phases(runDir).slice(-2), output).toEqual(['CHECKPOINTING', 'STOPPED']);
  const { step } = readLines(join(runDir, 'ledger.jsonl')).at(-1) as { step: number };
  expect(output).toContain(`stopped after step ${step}; run the same command to resume`);
  fingerprint(runDir, step); // reads its checkpoint
  expect(output).not.toContain('Debugger listening');
  expect(existsSync(join(runDir, 'lock'))).toBe(false);
}
