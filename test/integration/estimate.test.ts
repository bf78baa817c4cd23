/** The estimate of memory against the peak of a worker that trains. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../support/folders.js';
import { ends, Launched, TRAINING } from '../support/launched.js';
import { orchestrator, succeeds } from '../support/program.js';

const FLAGS = [
  'model.hidden=320',
  'batch.micro=5',
  'schedule.steps=2',
  'schedule.warmup=0',
  'validation.every=1',
  'checkpoint.every=1',
].flatMap((set) => ['--set', set]);

/** The kernel's own record of a process's largest resident set, in bytes; null where the process is gone. */
function peakOf(pid: number): number | null {
  try {
    const match = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
    return match === null ? null : Number(match[1]) * 1024;
  } catch {
    return null;
  }
}

test('is within 10 % of a worker at its peak', { timeout: 60_000 }, async () => {
  const folder = temporaryFolder();
  const page = succeeds(orchestrator('estimate', TRAINING, '--json', ...FLAGS));
  const { rank_bytes: rankBytes, machine } = JSON.parse(page) as {
    rank_bytes: [number];
    machine: { bytes: number }[];
  };
  const runDir = join(folder, 'run');
  const run = new Launched(runDir, 1, ...FLAGS);
  let peak = 0;
  const timer = setInterval(() => {
    try {
      for (const pid of run.workers()) peak = Math.max(peak, peakOf(pid) ?? 0);
    } catch {} // the journal's last line is being written
  }, 20);
  await ends(run.outcome, 0);
  clearInterval(timer);
  expect(readdirSync(join(runDir, 'checkpoints')).length).toBeGreaterThan(0);
  expect(rankBytes[0] / peak, `estimated ${rankBytes[0]}, measured ${peak}`).toBeGreaterThan(0.9);
  expect(rankBytes[0] / peak, `estimated ${rankBytes[0]}, measured ${peak}`).toBeLessThan(1.1);
  // What `launch` refuses must not have fitted: it asks for no more than the worker alone was seen to take.
  const needed = machine.reduce((sum, { bytes }) => sum + bytes, 0);
  expect(needed / peak, `needed ${needed}, measured ${peak}`).toBeLessThan(1.02);
});
