/** Runs that outlive their workers: whichever die, and whenever, the bits are those of a run that nothing disturbed. */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { faultyDisk, noFaultyDisk } from '../support/faulty-disk.js';
import { temporaryFolder } from '../support/folders.js';
import { FULL } from '../support/full.js';
import {
  allDead,
  endLaunched,
  ends,
  fingerprint,
  isAlive,
  Launched,
  launch,
  readLines,
} from '../support/launched.js';
import { because } from '../support/needs.js';
import { PACED } from '../support/paced.js';
import { MAIN, orchestrator, succeeds } from '../support/program.js';

const folder = temporaryFolder();
const settings = (...all: string[]) => all.flatMap((set) => ['--set', set]);
/** Checkpoints every 40 steps, and without end. */
const TRAINING = settings(
  'checkpoint.every=40',
  'validation.every=8',
  'schedule.steps=1000000',
  'schedule.decay=constant',
);

/** The pids of every generation that has started, by rank. */
function generations(runDir: string): number[][] {
  const lines = readLines(join(runDir, 'journal.jsonl'));
  return lines.flatMap(({ workers }) =>
    Array.isArray(workers) ? [workers.map(({ pid }: { pid: number }) => pid)] : [],
  );
}

/** Resolves when a generation of so many workers has started after the first `earlier`. */
async function generationOf(run: Launched, workers: number, earlier: number): Promise<void> {
  const isThere = () => {
    if (run.process.exitCode !== null) throw new Error(`ended without ${workers} workers:\n${run.output}`);
    return generations(run.runDir)
      .slice(earlier)
      .some(({ length }) => length === workers);
  };
  await expect.poll(isThere, { timeout: 60_000, interval: 10 }).toBe(true);
}

/** A run of TRAINING, which trains little while a test waits. */
const start = (name: string, nodes: number | string, ...more: string[]) =>
  new Launched(join(folder, name), PACED, '--nodes', String(nodes), ...TRAINING, ...more);

/** Starts a worker as a person does. */
function joins(runDir: string): { pid: number; code: Promise<number | null>; printed: () => string } {
  const child = spawn(process.execPath, [MAIN, 'worker', '--join', runDir], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let text = '';
  child.stderr.setEncoding('utf8').on('data', (more: string) => {
    text += more;
  });
  const code = new Promise<number | null>((resolve) => child.once('exit', resolve));
  return { pid: child.pid!, code, printed: () => text };
}

/** Ends the run in order. */
async function expectUndisturbed(run: Launched, ...more: string[]): Promise<void> {
  await run.steps(run.stepsDone() + 2);
  run.process.kill('SIGTERM');
  await ends(run.outcome, 143);
  await expectBits(run.runDir, ...more);
}

/** A run that has ended has trained what one that nothing disturbs trains in as many steps; nothing is left over. */
async function expectBits(runDir: string, ...more: string[]): Promise<void> {
  const ledger = readLines(join(runDir, 'ledger.jsonl')).map(({ step }) => step as number);
  const steps = ledger.at(-1)!;
  expect(ledger).toEqual(Array.from({ length: steps }, (_, i) => i + 1));
  await ends(
    launch(`${runDir}-undisturbed`, 1, ...TRAINING, ...more, ...settings(`schedule.steps=${steps}`)),
    0,
  );
  // Who is asked to stop abandons a validation, and does not begin that of the last step.
  const bits = (dir: string) => {
    const { validation, ...others } = fingerprint(dir, steps);
    return {
      ...others,
      validation: (validation as { step: number }[]).filter(({ step }) => step < steps - 1),
    };
  };
  expect(bits(runDir)).toEqual(bits(`${runDir}-undisturbed`));
  expect(generations(runDir).flat().filter(isAlive)).toEqual([]);
  expect(existsSync(join(runDir, 'lock'))).toBe(false);
  const checkpoints = readdirSync(join(runDir, 'checkpoints'));
  expect(checkpoints.filter((name) => !/^step-\d{8}$/.test(name))).toEqual([]);
}

describe('a worker that is killed', () => {
  test('is started again and gets the state from the others, also where one alone is left: 4 -> 3 -> 4 -> 1 -> 4', async () => {
    const run = start('4-3-4-1-4', '1:4', ...settings('exchange=shared'));
    await run.steps(3);
    process.kill(run.workers()[1]!, 'SIGKILL');
    await generationOf(run, 3, 1);
    await generationOf(run, 4, 2);
    expect(run.output).toContain('worker 1 is started again in 1 s (start 1 of 3 in 10 minutes)');
    const left = run.workers().at(-1)!;
    // Who is started again may be back before all are killed.
    const before = generations(run.runDir).length;
    const isAlone = () => {
      const since = generations(run.runDir).slice(before);
      if (since.some(({ length }) => length === 1)) return true;
      for (const pid of run.workers()) if (pid !== left && isAlive(pid)) process.kill(pid, 'SIGKILL');
      return false;
    };
    await expect.poll(isAlone, { timeout: 60_000, interval: 10 }).toBe(true);
    await generationOf(run, 4, 4);
    await expectUndisturbed(run);
  });

  test('with all others: they are started again, and resume from the last checkpoint', async () => {
    const run = start('2-0-2', 2, ...settings('checkpoint.every=10'));
    await run.says('checkpoint of step 10 in');
    for (const pid of run.workers()) process.kill(pid, 'SIGKILL');
    await run.says('the run continues after step');
    const [, from] = /the run continues after step (\d+) with/.exec(run.output)!;
    expect(Number(from) % 10).toBe(0);
    await expectUndisturbed(run);
  });

  test('and cannot be started again at once: the next attempt comes later, and it gets the state over gRPC', async () => {
    // The launcher starts its workers with the program that it runs itself.
    const [node, away, preload] = ['node', 'node-away', 'preload.cjs'].map((name) => join(folder, name));
    symlinkSync(process.execPath, node!);
    writeFileSync(preload!, `process.execPath = ${JSON.stringify(node)};`);
    const whence = {
      before: [],
      env: { NODE_OPTIONS: `${PACED.env.NODE_OPTIONS} --require ${JSON.stringify(preload)}` },
    };
    const run = new Launched(
      join(folder, 'no-start'),
      whence,
      ...['--nodes', '3', '--max-restarts', '9', ...TRAINING, ...settings('exchange=grpc')],
    );
    await run.steps(3);
    renameSync(node!, away!);
    process.kill(run.workers()[1]!, 'SIGKILL');
    await run.says('ENOENT');
    await generationOf(run, 2, 1);
    renameSync(away!, node!);
    await generationOf(run, 3, 2);
    await expectUndisturbed(run);
    expect(run.output).toContain('worker 1 is started again in 2 s (start 2 of 9 in 10 minutes)');
  });
});

test('where nobody is started again, and too few are left, they save what they hold: nothing is lost', async () => {
  const run = start('too-few', 3, '--min-workers', '2', '--max-restarts', '0');
  await run.steps(3);
  const workers = run.workers();
  process.kill(workers[0]!, 'SIGKILL');
  await generationOf(run, 2, 1);
  await run.steps(run.stepsDone() + 2);
  process.kill(workers[1]!, 'SIGKILL');
  const { output } = await ends(run.outcome, 1);
  // The last one saves what it has.
  expect(generations(run.runDir).map(({ length }) => length)).toEqual([3, 2, 1]);
  expect(output).toContain('worker 0 is not started again: --max-restarts allows 0 in 10 minutes');
  const { step } = readLines(join(run.runDir, 'ledger.jsonl')).at(-1) as { step: number };
  expect(output).toMatch(
    /ERR_WORKER_LOST: rank 0 \(pid \d+ on .*\) was killed by SIGKILL at step \d+ \(out of/,
  );
  expect(output).toContain(`The last checkpoint is that of step ${step}: \`--resume auto\``);
  expect(workers.filter(isAlive)).toEqual([]);
  await expectBits(run.runDir);
});

test.each(['shared', 'grpc'])(
  'a worker that is stopped for longer than it may be silent is left out, and comes back as another process, %s',
  async (exchange) => {
    const run = start(`frozen-${exchange}`, 2, ...settings(`exchange=${exchange}`));
    await run.steps(3);
    const frozen = run.workers()[1]!;
    process.kill(frozen, 'SIGSTOP');
    await generationOf(run, 1, 1);
    // Where it could write into the memory of the others, they have killed it before they go on.
    if (exchange === 'shared') expect(isAlive(frozen)).toBe(false);
    else process.kill(frozen, 'SIGCONT');
    await generationOf(run, 2, 2);
    await expectUndisturbed(run);
    expect(run.output).toMatch(
      /Lost rank 1 \(pid \d+ on .*\) at step \d+: no sign of life for \d+\.\d s.*; 1 worker goes on/,
    );
  },
);

test('workers that nobody has launched join; one without a slot waits until another leaves', async () => {
  const more = settings('batch.global=8');
  const run = start('joined', 1, ...more);
  await run.steps(3);
  const [launched] = run.workers();
  const first = joins(run.runDir);
  await generationOf(run, 2, 1);
  const second = joins(run.runDir);
  await expect
    .poll(() => second.printed(), { timeout: 60_000 })
    .toContain('on standby: all 2 slots have a worker');
  process.kill(launched!, 'SIGTERM');
  await generationOf(run, 2, 2);
  await expectUndisturbed(run, ...more);
  expect(generations(run.runDir)[2]).toEqual([first.pid, second.pid].sort((a, b) => a - b));
  expect(await Promise.all([first.code, second.code])).toEqual([143, 143]);
  expect(run.output).toContain('stays on standby: all 2 slots have a worker');
});

test.runIf(FULL)('a test that fails leaves no process of its run', async () => {
  const run = start('left', 2);
  await run.steps(1);
  const all = [run.process.pid!, run.coordinator(), ...run.workers()];
  endLaunched();
  expect(await allDead(all)).toBe(true);
  expect(run.workers()).toHaveLength(2);
});

test.skipIf(noFaultyDisk)(
  because('a worker that leaves its memory to others writes its checkpoint first', noFaultyDisk),
  async () => {
    const [release, every] = [join(folder, 'release'), settings('checkpoint.every=2')];
    faultyDisk('.partial-step-00000002', 'slow', release);
    onTestFinished(() => void vi.unstubAllEnvs());
    const run = start('writes', 2, ...settings('exchange=shared'), ...every);
    await run.steps(2);
    const [writer] = run.workers();
    process.kill(writer!, 'SIGTERM');
    await generationOf(run, 1, 1);
    // The others kill who has not left their memory within a second.
    await run.steps(run.stepsDone() + 15);
    writeFileSync(release, '');
    await run.says(`worker local-0 (pid ${writer} on ${hostname()}) has left`);
    vi.unstubAllEnvs();
    await expectUndisturbed(run, ...every);
    expect(run.output).toContain('checkpoint of step 2 in');
    expect(run.output).not.toMatch(/SIGKILL|started again/);
  },
);

test('a worker that is drained leaves after the step, and is not started again', async () => {
  const run = start('leaves', 3, '--min-workers', '2');
  await run.steps(3);
  const { runDir } = run;
  const [leaver] = run.workers();
  expect(succeeds(orchestrator('drain', runDir, 'local-0'))).toBe(
    `worker local-0 (pid ${leaver}) has left the run in ${runDir}\n`,
  );
  await generationOf(run, 2, 1);
  const { stderr } = orchestrator('drain', runDir, 'local-1');
  expect(stderr).toContain(`The run in ${runDir} needs all of its 2 workers (--min-workers)`);
  expect(orchestrator('drain', runDir, 'local-0').stderr).toContain(
    'has no worker local-0; it has local-1, local-2',
  );
  await expectUndisturbed(run);
  expect(generations(runDir).map(({ length }) => length)).toEqual([3, 2]);
  expect(orchestrator('drain', runDir, 'local-1').stderr).toContain(`Nothing runs in ${runDir}`);
  expect(run.output).not.toContain('started again');
  expect(run.output).toContain(`worker local-0 (pid ${leaver} on ${hostname()}) has left`);
  expect(run.output).not.toContain('ended with exit code');
});
