/** A run on two hosts that share no files: over TLS, with the bits of a run on one. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { openCheckpoint } from '../../src/checkpoint/store.js';
import { isSuspended, processId } from '../../src/files/processes.js';
import { native } from '../../src/native/load.js';
import { temporaryFolder } from '../support/folders.js';
import { FULL } from '../support/full.js';
import { noHosts, TestHosts } from '../support/hosts.js';
import { ends, fingerprint, Launched, launch, readLines, TRAINING } from '../support/launched.js';
import { because } from '../support/needs.js';
import { PACED } from '../support/paced.js';
import { PLAINEST_ISA } from '../support/plainest-isa.js';
import { MAIN } from '../support/program.js';
import { undisturbed } from '../support/undisturbed.js';

const STEPS = 24;
/** The checkpoint before the last. */
const RESUMED = 21;
const reason = noHosts();

let hosts: TestHosts;
beforeAll(() => {
  if (reason === null) hosts = TestHosts.switched();
});
afterAll(() => hosts?.remove());

interface Ended {
  code: number | null;
  output: string;
}

/** Runs a command on a host, with this as its input. */
function run(
  before: readonly string[],
  words: readonly string[],
  input = '',
): { process: ChildProcess; ended: Promise<Ended> } {
  const [file, ...parameters] = [...before, process.execPath, MAIN, ...words] as [string, ...string[]];
  const child = spawn(file, parameters, { stdio: ['pipe', 'pipe', 'pipe'] });
  child.stdin.end(input);
  const code = new Promise<number | null>((resolve) => child.once('close', resolve));
  const ended = Promise.all([code, text(child.stdout), text(child.stderr)]).then(([code, out, err]) => ({
    code,
    output: out + err,
  }));
  return { process: child, ended };
}

/** Starts a coordinator on host 1. */
function coordinate(runDir: string, workers: number, ...more: string[]) {
  const listen = ['--listen', '0.0.0.0:29500', '--advertise', '10.77.0.1'];
  const options = ['--workers', String(workers), '--run-dir', runDir, '--set', 'exchange=grpc', ...listen];
  return run(hosts.on(1), ['coordinator', TRAINING, ...options, ...more]);
}

/**
 * Runs a coordinator on host 1, and a worker behind each of these; returns what the coordinator has said.
 *
 * @param next The end of the coordinator that follows, if one does.
 */
async function runOn(
  runDir: string,
  places: readonly string[][],
  first = coordinate(runDir, places.length),
  next = first.ended,
): Promise<string> {
  const fails = first.ended.then(({ output }) => Promise.reject(new Error(output)));
  await Promise.race([once(first.process.stdout!, 'data'), fails]);
  const invited = await run(hosts.on(1), ['invite', runDir, '--uses', String(places.length)]).ended;
  expect(invited.code, invited.output).toBe(0);
  const joined = (before: readonly string[]) =>
    run(before, ['worker', '--credential', '-'], invited.output).ended;
  const ended = await Promise.all(places.map(joined));
  for (const { code, output } of ended) expect(code, output).toBe(0);
  const { code, output } = await next;
  expect(code, output).toBe(0);
  return output;
}

describe.skipIf(reason)(because('two hosts', reason), () => {
  test('go on from a checkpoint that only one of them sees', async () => {
    const folder = temporaryFolder();
    const runDir = join(folder, 'two');
    const { runDir: reference } = await undisturbed();
    cpSync(reference, runDir, { recursive: true });
    rmSync(join(runDir, 'checkpoints', `step-000000${STEPS}`), { recursive: true });

    const output = await runOn(runDir, [hosts.on(1), hosts.on(2, runDir)]);
    expect(output).toContain(`steps ${RESUMED + 1} to ${STEPS}`);
    expect(fingerprint(runDir, STEPS)).toEqual(fingerprint(reference, STEPS));

    const generations = readLines(join(runDir, 'journal.jsonl')) as { workers?: { dataAddress: string }[] }[];
    const { workers: places } = generations.findLast(({ workers }) => workers !== undefined)!;
    expect(places!.map(({ dataAddress }) => dataAddress)).toEqual([
      expect.stringMatching(/^10\.77\.0\.1:\d+$/),
      expect.stringMatching(/^10\.77\.0\.2:\d+$/),
    ]);
  });

  test.each([
    ['over gRPC', 'grpc', 2],
    ['in memory that workers of one host share', 'shared', 1],
  ])('keep checkpoints that no worker sees, and go on from them: %s', async (_, exchange, other) => {
    const folder = temporaryFolder();
    const runDir = join(folder, 'two');
    const { runDir: reference } = await undisturbed();
    mkdirSync(runDir);
    const blind = [hosts.on(1, runDir), hosts.on(other, runDir)];
    const runBlind = () => runOn(runDir, blind, coordinate(runDir, 2, '--set', `exchange=${exchange}`));
    await runBlind();
    expect(fingerprint(runDir, STEPS)).toEqual(fingerprint(reference, STEPS));
    const checkpoints = join(runDir, 'checkpoints');
    expect(readdirSync(checkpoints)).toEqual(readdirSync(join(reference, 'checkpoints')));

    rmSync(join(checkpoints, `step-000000${STEPS}`), { recursive: true });
    expect(await runBlind()).toContain(`steps ${RESUMED + 1} to ${STEPS}`);
    expect(fingerprint(runDir, STEPS)).toEqual(fingerprint(reference, STEPS));
  });

  test.runIf(FULL)(
    'keep the state when the coordinator is killed while it gets it for a checkpoint',
    async () => {
      const folder = temporaryFolder();
      const runDir = join(folder, 'two');
      const short = ['--set', 'schedule.steps=6', '--set', 'checkpoint.every=3'];
      const { runDir: reference } = await undisturbed(...short);
      mkdirSync(runDir);
      vi.stubEnv('ORCHESTRATOR_FAULT', 'coordinator:fetching:3:kill');
      onTestFinished(() => void vi.unstubAllEnvs());
      const first = coordinate(runDir, 2, ...short);
      const next = first.ended.then(({ output }) => {
        expect(first.process.signalCode, output).toBe('SIGKILL');
        return coordinate(runDir, 2, ...short, '--again').ended;
      });
      const output = await runOn(runDir, [hosts.on(1, runDir), hosts.on(2, runDir)], first, next);
      expect(output).toContain('whose state its workers have kept');
      expect(fingerprint(runDir, 6)).toEqual(fingerprint(reference, 6));
      const names = readdirSync(join(runDir, 'checkpoints'));
      expect(names.filter((name) => !/^step-0000000[36]$/.test(name))).toEqual([]);
    },
  );

  test.runIf(FULL)(
    'keep the last checkpoint when the coordinator stands still while it gets it',
    async () => {
      const runDir = join(temporaryFolder(), 'two');
      mkdirSync(runDir);
      vi.stubEnv('ORCHESTRATOR_FAULT', 'coordinator:fetching:6:stop');
      onTestFinished(() => void vi.unstubAllEnvs());
      const short = ['--set', 'schedule.steps=6', '--set', 'checkpoint.every=6'];
      const coordinator = coordinate(runDir, 2, ...short);
      const { pid } = coordinator.process;
      // Longer than the workers wait for its answers.
      const goesOn = expect
        .poll(() => isSuspended(processId(pid!)), { timeout: 120_000 })
        .toBe(true)
        .then(() => sleep(15_000))
        .then(() => coordinator.process.kill('SIGCONT'));
      await runOn(runDir, [hosts.on(1, runDir), hosts.on(2, runDir)], coordinator);
      await goesOn;
      expect(readdirSync(join(runDir, 'checkpoints'))).toEqual(['step-00000006']);
    },
  );
});

/** Without the instruction set with which the tests run. */
const BEST = ['env', '-u', 'ORCHESTRATOR_ISA'];
const oneSet = native().instructionSets().length > 1 ? null : 'needs a processor with two instruction sets';

test.skipIf(oneSet)(
  because('an invited worker with less lowers the instruction set of a run that has not begun', oneSet),
  async () => {
    const folder = temporaryFolder();
    const [plain, mixed] = [join(folder, 'plain'), join(folder, 'mixed')];
    const short = ['--set', 'schedule.steps=4', '--set', 'exchange=grpc'];
    const env = { ORCHESTRATOR_ISA: PLAINEST_ISA };
    await ends(launch(plain, { before: [], env }, ...short), 0);

    const two = ['--workers', '2', '--listen', '127.0.0.1:0', '--run-dir', mixed];
    const coordinator = run(BEST, ['coordinator', TRAINING, ...two, ...short]);
    await once(coordinator.process.stdout!, 'data');
    const better = run(BEST, ['worker', '--join', mixed]);
    await once(better.process.stderr!, 'data');
    const { output: credential } = await run([], ['invite', mixed]).ended;
    const less = run(
      ['env', `ORCHESTRATOR_ISA=${PLAINEST_ISA}`],
      ['worker', '--credential', '-'],
      credential,
    );
    const ended = await Promise.all([coordinator, better, less].map(({ ended }) => ended));
    for (const { code, output } of ended) expect(code, output).toBe(0);

    const lines = ended[0]!.output.split('\n').filter((line) => line.includes('all workers compute with'));
    expect(lines).toEqual([expect.stringMatching(`${PLAINEST_ISA}, the only one that worker .* may use`)]);
    const generations = readLines(join(mixed, 'journal.jsonl')).filter(
      ({ workers }) => workers !== undefined,
    );
    const arithmetic = expect.stringContaining(`isa ${PLAINEST_ISA}, `);
    expect(generations).toMatchObject([{ arithmetic, workers: [{}, {}] }]);
    const { versions } = await openCheckpoint(join(mixed, 'checkpoints', 'step-00000004'));
    expect(versions.isa).toBe(PLAINEST_ISA);
    expect(fingerprint(mixed, 4)).toEqual(fingerprint(plain, 4));
  },
);

test('a worker with other instructions is refused, and the run goes on', async () => {
  const runDir = temporaryFolder();
  const listen = ['--listen', '127.0.0.1:0', '--set', 'schedule.steps=100000'];
  const launched = new Launched(runDir, PACED, ...listen);
  try {
    await launched.steps(1);
    const { output: credential } = await run([], ['invite', runDir]).ended;
    const other = ['env', 'ORCHESTRATOR_ISA=generic'];
    const { code, output } = await run(other, ['worker', '--credential', '-'], credential).ended;
    expect(code, output).toBe(1);
    expect(output).toMatch(/it would compute with isa generic, and the others compute with isa /);
    const done = launched.stepsDone();
    await launched.steps(done + 2);
    expect(launched.output).not.toContain('the run continues after step');
  } finally {
    launched.process.kill('SIGTERM');
  }
  await ends(launched.outcome, 143);
});
