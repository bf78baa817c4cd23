/** `launch --dry-run`: who gets what, and what would be started. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../support/folders.js';
import { ends, environmentOf, Launched, launch } from '../support/launched.js';

const folder = temporaryFolder();

test('a dry run prints who gets what, and starts nothing', async () => {
  const runDir = join(folder, 'dry');
  const { code, output } = await launch(runDir, 2, '--dry-run');
  expect(code).toBe(0);
  expect(output).toContain('batch    20 samples = 5 slots x 4\n');
  expect(output).toMatch(/^start {4}fresh, weights from seed 7$/m);
  expect(output).toMatch(/^data .*: 8 of 48 rows \(17 %\) are held out for validation$/m);
  expect(output).toMatch(/^model .* M parameters, .*; depth 2, hidden 128, .*pos_embed_max_size 16/m);
  expect(output).toMatch(/^steps {4}24 = 480 samples = 12\.00 epochs$/m);
  expect(output).toMatch(
    /^time {5}\S+ m?s to \S+ m?s a step, \S+ m?s to \S+ m?s a validation, .* the run \(if nothing else computes here; large matmuls reach .*F\/s\)/m,
  );
  expect(output).toMatch(/^disk {5}\S+ MiB a checkpoint, up to \d at once: \S+ MiB; .* are free$/m);
  expect(output).toMatch(/^rank 1 {3}slots 2-4 \(12 samples\), 1 thread, memory at least \d+ MiB$/m);
  expect(output).toMatch(/^ {2}\S+ .*coordinator test\/integration\/training.yaml --workers 2 /m);
  expect(existsSync(runDir)).toBe(false);
});

test('a dry run of several workers on each node prints their local ranks', async () => {
  const { code, output } = await launch(join(folder, 'dry'), 2, '--nproc-per-node', '2', '--dry-run');
  expect(code).toBe(0);
  expect(output).toContain(' --workers 4 ');
  const local = [...output.matchAll(/LOCAL_RANK=(\d) LOCAL_WORLD_SIZE=(\d)/g)].map(([, ...found]) =>
    found.join('/'),
  );
  expect(local).toEqual(['0/2', '1/2', '0/2', '1/2']);
  const refused = await launch(join(folder, 'dry'), 2, '--nproc-per-node', '3', '--dry-run');
  expect(refused).toMatchObject({
    code: 2,
    output: expect.stringContaining('6 workers cannot share 5 slots'),
  });
});

test('the memory of the ranks and of the coordinator is what the run needs', async () => {
  const { output } = await launch(join(folder, 'dry'), 3, '--dry-run');
  const [, total, others] =
    /^memory +at least (\d+) MiB, that of the ranks and (\d+) MiB of .* has [\d.]+ GiB$/m.exec(output)!;
  const ranks = [...output.matchAll(/^rank .* memory at least (\d+) MiB$/gm)].map(([, mib]) => Number(mib));
  expect(ranks).toHaveLength(3);
  const sum = ranks.reduce((sum, mib) => sum + mib, Number(others));
  expect(Math.abs(sum - Number(total))).toBeLessThanOrEqual(2); // each figure is rounded
});

test('a dry run prints the very commands and environments of the processes', async () => {
  const runDir = join(folder, 'commands');
  const flags = ['--nproc-per-node', '2', '--set', 'schedule.steps=100000'];
  const { output } = await launch(runDir, 2, ...flags, '--dry-run');
  const run = new Launched(runDir, 2, ...flags);
  await run.says('step 2/');
  const pids = [run.coordinator(), ...run.workers()];
  const printed = output.match(/(?<=^ {2}# .* on localhost\n {2}).*$/gm);
  expect(pids.map(typed).sort()).toEqual(printed?.sort());
  expect(printed).toHaveLength(5);
  expect(output.match(/^ {2}# .*$/gm)).toEqual(
    ['coordinator', 'worker 0', 'worker 1', 'worker 2', 'worker 3'].map(
      (name) => `  # ${name}, on localhost`,
    ),
  );
  run.process.kill('SIGTERM');
  await ends(run.outcome, 143);
});

/** A process as one would type it: what its environment has beyond that of the tests, and its command. */
function typed(pid: number): string {
  const own = Object.entries(environmentOf(pid)).filter(
    ([name, value]) => process.env[name] !== value && !name.startsWith('NODE_CHANNEL_'), // of the pipe to `launch`
  );
  const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
  return [...own.map(([name, value]) => `${name}=${value}`), ...command].join(' ');
}
