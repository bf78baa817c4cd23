/**
 * The coordinator is killed at named points of its work, or stopped: its workers keep what they hold, the next one
 * takes its place, and the run ends in the bits of one that nothing disturbs. `.ci/run` tries every point with both
 * exchanges.
 */

import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeAll, expect, test, vi } from 'vitest';
import { MANIFEST } from '../../src/checkpoint/manifest.js';
import { COORDINATOR_POINTS } from '../../src/fault-points.js';
import { temporaryFolder } from '../support/folders.js';
import { FULL, rows } from '../support/full.js';
import {
  allDead,
  commandOf,
  ends,
  fingerprint,
  isAlive,
  isSuspended,
  Launched,
  launch,
  readLines,
} from '../support/launched.js';
import { PACED } from '../support/paced.js';
import { MAIN } from '../support/program.js';
import { generationsOf } from '../support/run-records.js';
import { undisturbed } from '../support/undisturbed.js';

const STEPS = 6;
const settings = (...all: string[]) => all.flatMap((set) => ['--set', set]);
const SETTINGS = settings(`schedule.steps=${STEPS}`, 'checkpoint.every=3', 'validation.every=3');
const ENDLESS = settings('schedule.steps=1000000', 'schedule.decay=constant', 'checkpoint.every=1000000');
const endless = (runDir: string, nodes: number, ...more: string[]) =>
  new Launched(runDir, PACED, '--nodes', String(nodes), ...ENDLESS, ...more);

type Case = [point: string, step: number, exchange: string];
const SOME: Case[] = [
  ['committed', 4, 'shared'],
  ['publishing', 3, 'grpc'],
];
const ELSEWHERE = ['forming', 'fetching'];
/** Every point with each exchange, once where a validation and a checkpoint follow, and once at the end of the run. */
const OTHERS = COORDINATOR_POINTS.filter((point) => !ELSEWHERE.includes(point))
  .flatMap((point, i): Case[] => {
    const [one, other] = i % 2 === 0 ? ['shared', 'grpc'] : ['grpc', 'shared'];
    const atStart = point === 'starting' || point === 'syncing';
    return [
      [point, atStart ? 1 : 3, one!],
      [point, atStart ? 1 : STEPS, other!],
    ];
  })
  .filter((one) => !SOME.some((other) => one.join() === other.join()));

const folder = temporaryFolder();
let reference: Record<string, unknown>;
beforeAll(async () => {
  reference = fingerprint((await undisturbed(...SETTINGS)).runDir, STEPS);
});
afterEach(() => vi.unstubAllEnvs());

/** The processes of all generations, by rank, without those that came back. */
function workersOf(runDir: string): number[] {
  return [...new Set(generationsOf(runDir).flatMap(({ workers }) => workers.map(({ pid }) => pid)))];
}

function expectNothingLeft(runDir: string): void {
  expect(workersOf(runDir).filter(isAlive)).toEqual([]);
  expect(existsSync(join(runDir, 'lock'))).toBe(false);
  expect(readdirSync(join(runDir, 'checkpoints')).filter((name) => !/^step-\d{8}$/.test(name))).toEqual([]);
}

test.each(rows(SOME, OTHERS))('killed at %s %i, %s', async (point, step, exchange) => {
  vi.stubEnv('ORCHESTRATOR_FAULT', `coordinator:${point}:${step}:kill`);
  const runDir = join(folder, `${point}-${step}-${exchange}`);
  const { output } = await ends(launch(runDir, 2, ...SETTINGS, ...settings(`exchange=${exchange}`)), 0);
  expect(output).toContain(`warn ORCHESTRATOR_FAULT: the coordinator is sent SIGKILL at ${point} ${step}`);
  expect(output).toContain('it is started again in 1 s (start 1 of 3 in 10 minutes)');
  expect(fingerprint(runDir, STEPS)).toEqual(reference);
  // No worker had to be started again.
  expect(workersOf(runDir)).toHaveLength(2);
  expectNothingLeft(runDir);
});

test('killed with the last checkpoint, which waits for a worker that validates: no validation is lost', async () => {
  vi.stubEnv('ORCHESTRATOR_FAULT', `local-1:validating:${STEPS}:stop,coordinator:published:${STEPS}:kill`);
  const runDir = join(folder, 'validating');
  const run = new Launched(runDir, 2, ...SETTINGS, ...settings('exchange=grpc'));
  await run.says(`step ${STEPS}/`);
  const slow = run.workers()[1]!;
  await expect.poll(() => isSuspended(slow)).toBe(true);
  const checkpoints = join(runDir, 'checkpoints');
  // It has its name already where this test has stood so long that the slow one was given up.
  const isStaged = () =>
    readdirSync(checkpoints).some(
      (name) => name.includes(`step-0000000${STEPS}`) && existsSync(join(checkpoints, name, MANIFEST)),
    );
  await expect.poll(isStaged, { timeout: 60_000 }).toBe(true);
  await sleep(500);
  if (isAlive(slow)) process.kill(slow, 'SIGCONT');
  const { output } = await ends(run.outcome, 0);
  expect(output).toContain('the coordinator is sent SIGKILL at published');
  expect(fingerprint(runDir, STEPS)).toEqual(reference);
  expectNothingLeft(runDir);
});

test('killed while a worker gets the state from another', async () => {
  // The second generation is without the worker that was killed, and the third one with the one that is started again.
  vi.stubEnv('ORCHESTRATOR_FAULT', 'coordinator:syncing:3:kill');
  const run = endless(join(folder, 'syncing'), 2, ...settings('exchange=grpc'));
  await run.steps(2);
  process.kill(run.workers()[1]!, 'SIGKILL');
  await run.says('the coordinator was started again');
  await run.says('whose state its workers have kept');
  await expect.poll(() => run.workers(), { timeout: 60_000 }).toHaveLength(2);
  await stopsUndisturbed(run, [...ENDLESS, ...settings('exchange=grpc')]);
});

test.runIf(FULL)('killed while a generation forms, because a worker was killed', async () => {
  vi.stubEnv('ORCHESTRATOR_FAULT', 'coordinator:forming:2:kill');
  const run = endless(join(folder, 'forming'), 3);
  await run.steps(2);
  process.kill(run.workers()[1]!, 'SIGKILL');
  await run.says('the coordinator was started again');
  await run.says('whose state its workers have kept');
  await stopsUndisturbed(run, ENDLESS);
});

/** Ends the run in order: what it has trained is what a run that nothing disturbs trains in as many steps. */
async function stopsUndisturbed(run: Launched, sets: readonly string[]): Promise<void> {
  await run.steps(run.stepsDone() + 2);
  run.process.kill('SIGTERM');
  await ends(run.outcome, 143);
  const { runDir } = run;
  const steps = readLines(join(runDir, 'ledger.jsonl')).at(-1)!.step as number;
  await ends(launch(`${runDir}-undisturbed`, 1, ...sets, ...settings(`schedule.steps=${steps}`)), 0);
  const bits = (dir: string) => ({ ...fingerprint(dir, steps), validation: null });
  expect(bits(runDir)).toEqual(bits(`${runDir}-undisturbed`));
  expectNothingLeft(runDir);
}

/** Kills the launcher and the coordinator of a run, whose workers live on. */
async function orphan(run: Launched): Promise<number[]> {
  const workers = run.workers();
  const coordinator = run.coordinator();
  run.process.kill('SIGSTOP');
  process.kill(coordinator, 'SIGKILL');
  run.process.kill('SIGKILL');
  await run.outcome;
  expect(await allDead([coordinator])).toBe(true);
  expect(workers.filter(isAlive)).toEqual(workers);
  return workers;
}

test('the same command goes on with the workers of a launcher that was killed with its coordinator', async () => {
  const runDir = join(folder, 'orphaned');
  const first = endless(runDir, 2);
  await first.steps(2);
  const workers = await orphan(first);
  const recorded = readLines(join(runDir, 'ledger.jsonl')).length;

  const run = endless(runDir, 2);
  await run.steps(2);
  // Nothing was ever saved: a committed step that was lost would be trained again, from the first one on.
  const [kept] = /(?<=the run continues after step )\d+(?=, whose state its workers have kept)/.exec(
    run.output,
  )!;
  expect(Number(kept)).toBeGreaterThanOrEqual(recorded - 1);
  expect(workersOf(runDir)).toEqual(workers);
  for (const [i, pid] of workers.entries()) {
    await run.says(`worker ${i} of the launch before (pid ${pid}) lives, and goes on`);
  }
  // It is started again as one of its own would be.
  process.kill(workers[1]!, 'SIGKILL');
  await expect.poll(() => run.workers().filter((pid) => pid !== workers[0])).toHaveLength(1);
  await expect.poll(() => run.workers().includes(workers[1]!)).toBe(false);
  await stopsUndisturbed(run, ENDLESS);
});

test('and ends them when it is told to stop, also one that is suspended', async () => {
  const runDir = join(folder, 'adopted');
  // Those that share memory would kill it.
  const first = endless(runDir, 2, ...settings('exchange=grpc'));
  await first.steps(2);
  const workers = await orphan(first);
  const run = endless(runDir, 2, ...settings('exchange=grpc'));
  await run.steps(1);
  process.kill(workers[1]!, 'SIGSTOP');
  run.process.kill('SIGTERM');
  await ends(run.outcome, 143);
  expect(workers.filter(isAlive)).toEqual([]);
  expectNothingLeft(runDir);
});

test.runIf(FULL)(
  'workers of a run with other settings end, and others are started in their places',
  async () => {
    const runDir = join(folder, 'others');
    const first = endless(runDir, 2);
    await first.steps(2);
    const workers = await orphan(first);
    const run = endless(runDir, 1);
    await run.says('has ended: it was killed, or belongs to a run with other settings');
    await run.steps(1);
    expect(workers.filter(isAlive)).toEqual([]);
    await stopsUndisturbed(run, ENDLESS);
  },
);

test.runIf(FULL)(
  'workers without a launcher take part in the run of a coordinator that was started by hand',
  async () => {
    const run = endless(join(folder, 'by-hand'), 2, '--max-restarts', '0');
    await run.steps(2);
    const { runDir } = run;
    const command = commandOf(run.coordinator());
    const workers = await orphan(run);

    const again = spawn(command[0]!, [...command.slice(1), '--again'], { stdio: ['ignore', 'pipe', 'pipe'] });
    const code = new Promise((resolve) => again.once('exit', resolve));
    let printed = '';
    for (const stream of [again.stdout, again.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        printed += text;
      });
    }
    await expect
      .poll(() => printed, { timeout: 60_000 })
      .toMatch(/whose state its workers have kept.*step \d+\//s);
    // The run goes on as it was, and ends in order.
    again.kill('SIGTERM');
    expect(await code, printed).toBe(143);
    expect(await allDead(workers)).toBe(true);
    expect(command).toContain(MAIN);
    expectNothingLeft(runDir);
  },
);

test('without another coordinator they end by themselves', async () => {
  const run = endless(join(folder, 'orphans'), 2, '--patience', '10s');
  await run.steps(2);
  const workers = await orphan(run);
  expect(await allDead(workers)).toBe(true);
});

test.runIf(FULL)(
  'a coordinator that is stopped for longer than its workers may be silent loses nobody',
  async () => {
    const run = endless(join(folder, 'stopped'), 2);
    await run.steps(2);
    const coordinator = run.coordinator();
    process.kill(coordinator, 'SIGSTOP');
    await sleep(6_000);
    process.kill(coordinator, 'SIGCONT');
    await stopsUndisturbed(run, ENDLESS);
    expect(run.output).not.toContain('Lost');
    expect(workersOf(run.runDir)).toHaveLength(2);
  },
);
