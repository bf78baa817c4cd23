/**
 * Faults at named points of a worker's loop: whatever dies or is stopped where, the run ends in the bits of one that
 * nothing disturbs, and nothing is left over. `.ci/run` tries every point with each exchange and with each rank.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeAll, expect, test, vi } from 'vitest';
import { FAULT_POINTS } from '../../src/fault-points.js';
import { temporaryFolder } from '../support/folders.js';
import { rows } from '../support/full.js';
import { ends, fingerprint, isAlive, Launched, launch, readLines } from '../support/launched.js';
import { because } from '../support/needs.js';
import { preloaded } from '../support/preloaded.js';
import { undisturbed } from '../support/undisturbed.js';

const STEPS = 6;
const SETTINGS = [`schedule.steps=${STEPS}`, 'checkpoint.every=3', 'validation.every=3'].flatMap((set) => [
  '--set',
  set,
]);
/** Both have a state after step 3, which is validated and saved. */
const AT = 3;

type Case = [worker: string, point: string, how: 'kill' | 'stop' | 'hang', exchange: string];
const SOME: Case[] = [
  ['local-1', 'synced', 'kill', 'shared'],
  ['local-1', 'commit', 'kill', 'shared'],
  ['local-0', 'saving', 'kill', 'grpc'],
  ['local-1', 'reduce', 'hang', 'grpc'],
];
const OTHERS: Case[] = [
  ...FAULT_POINTS.flatMap((point, i): Case[] => {
    const [one, other] = i % 2 === 0 ? ['shared', 'grpc'] : ['grpc', 'shared'];
    return [
      ['local-0', point, 'kill', one!],
      ['local-1', point, 'kill', other!],
    ];
  }).filter((one) => !SOME.some((other) => one.join() === other.join())),
  ['local-1', 'prepared', 'stop', 'grpc'],
  ['local-0', 'commit', 'stop', 'shared'],
  ['local-0', 'commit', 'hang', 'shared'],
];

const folder = temporaryFolder();
let reference: Record<string, unknown>;
beforeAll(async () => {
  reference = fingerprint((await undisturbed(...SETTINGS)).runDir, STEPS);
});
afterEach(() => vi.unstubAllEnvs());

test.each(rows(SOME, OTHERS))('%s at %s: %s, %s', async (worker, point, how, exchange) => {
  const isOfGeneration = point === 'formed' || point === 'synced';
  vi.stubEnv('ORCHESTRATOR_FAULT', `${worker}:${point}:${isOfGeneration ? 1 : AT}:${how}`);
  // The coordinator would notice after 3 seconds.
  if (how === 'hang') vi.stubEnv('ORCHESTRATOR_WATCHDOG', '1000:1');
  const runDir = join(folder, `${worker}-${point}-${how}-${exchange}`);
  const run = new Launched(runDir, 2, ...SETTINGS, '--set', `exchange=${exchange}`);
  const { output } = await ends(run.outcome, 0);
  const effect = how === 'hang' ? 'hangs' : `is sent SIG${how.toUpperCase()}`;
  expect(output).toContain(`ORCHESTRATOR_FAULT: this worker ${effect} at ${point}`);
  if (how === 'hang') {
    expect(output).toMatch(
      /warn \[worker \d\] this worker hangs and is ended: its event loop has stood for 1\.\d s/,
    );
    expect(output).toMatch(/rank [01] .* hung at step [34] and was ended by its watchdog/);
  }
  expect(output).toMatch(/rank [01] .*; 1 worker goes on/);
  expect(fingerprint(runDir, STEPS)).toEqual(reference);
  const workers = readLines(join(runDir, 'journal.jsonl')).flatMap(
    (line) => (line.workers as { pid: number }[] | undefined) ?? [],
  );
  expect(workers.map(({ pid }) => pid).filter(isAlive)).toEqual([]);
  expect(existsSync(join(runDir, 'lock'))).toBe(false);
  expect(readdirSync(join(runDir, 'checkpoints')).filter((name) => !/^step-\d{8}$/.test(name))).toEqual([]);
});

const { library, missing } = preloaded('faulty-socket');
const flips = 'a bit that flips between workers is noticed, and the step run again';
test.skipIf(missing)(because(flips, missing), async () => {
  const flipped = join(folder, 'flipped');
  vi.stubEnv('LD_PRELOAD', library);
  vi.stubEnv('SOCKET_FLIPPED', flipped);
  const runDir = join(folder, 'flips');
  const { output } = await ends(launch(runDir, 2, ...SETTINGS, '--set', 'exchange=grpc'), 0);
  expect(existsSync(flipped)).toBe(true);
  expect(output).toMatch(
    /warn rank [01] .*: The exchange with rank [01] broke at step 1: the checksum of a message of [\d,]+ bytes is wrong: bits were flipped on the way/,
  );
  expect(output).toContain('warn All workers live, so they connect to each other again');
  expect(fingerprint(runDir, STEPS)).toEqual(reference);
});

test('a connection between two workers that live breaks: they connect again, and nobody is left out', async () => {
  vi.stubEnv('ORCHESTRATOR_FAULT', `local-1:prepare:${AT}:cut`);
  const runDir = join(folder, 'cut');
  const run = new Launched(runDir, 2, ...SETTINGS, '--set', 'exchange=grpc');
  const { output } = await ends(run.outcome, 0);
  expect(output).toMatch(/warn rank 0 .*: The exchange with rank 1 broke at step 3/);
  expect(output).toContain('warn All workers live, so they connect to each other again');
  expect(output).not.toContain('Lost');
  expect(fingerprint(runDir, STEPS)).toEqual(reference);
  const generations = readLines(join(runDir, 'journal.jsonl')).flatMap((line) =>
    Array.isArray(line.workers) ? [(line.workers as { pid: number }[]).map(({ pid }) => pid)] : [],
  );
  expect(generations).toEqual([generations[0], generations[0]]);
});

test('where the run has failed, no worker is started again, also while one still holds its session', async () => {
  vi.stubEnv('ORCHESTRATOR_FAULT', 'local-2:prepared:2:stop');
  const diverges = ['optimizer.lr=1e30', 'optimizer.clip_norm=1e30', 'exchange=grpc'];
  const sets = diverges.flatMap((set) => ['--set', set]);
  const run = new Launched(join(folder, 'diverges'), 3, ...SETTINGS, ...sets);
  const { output } = await ends(run.outcome, 1);
  expect(output).toContain('ERR_NON_FINITE');
  expect(output).not.toContain('started again');
});
