/**
 * Signals to the processes of real runs: whichever come, to whichever process and however often, a run that
 * trains ends in order with a checkpoint; only Ctrl-C pressed again does without.
 */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { askStatus } from '../../src/coordinator/status-socket.js';
import { EPSILON_LOG_SNRS } from '../../src/objective/objective.js';
import type { ValidatedSlots } from '../../src/telemetry/record.js';
import { endlessRun, expectSaved, LONG, send } from '../support/endless-run.js';
import { temporaryFolder } from '../support/folders.js';
import { rows } from '../support/full.js';
import {
  allDead,
  childrenOf,
  commandOf,
  ends,
  exitCodeOf,
  fingerprint,
  isAlive,
  isPending,
  isSuspended,
  Launched,
  launch,
  readLines,
  TRAINING,
} from '../support/launched.js';
import { PACED } from '../support/paced.js';
import { MAIN, orchestrator } from '../support/program.js';
import { undisturbed } from '../support/undisturbed.js';

const folder = temporaryFolder();
type Role = 'launcher' | 'coordinator' | 'worker';

const training = (name: string, ...more: string[]) => endlessRun(join(folder, name), ...more);

describe('an orderly end', () => {
  test('SIGTERM to every process at once, as Slurm, systemd and Kubernetes send it', async () => {
    const { run, runDir, all } = await training('everybody');
    for (const pid of all) send(pid, 'SIGTERM');
    const { output } = await ends(run.outcome, 143);
    expectSaved(runDir, output);
    expect(all.filter(isAlive)).toEqual([]);
    // The same command goes on.
    const { step } = readLines(join(runDir, 'ledger.jsonl')).at(-1) as { step: number };
    const more = ['--set', `schedule.steps=${step + 2}`, '--set', 'schedule.warmup=0'];
    await ends(launch(runDir, 2, ...more), 0);
    expect(readLines(join(runDir, 'ledger.jsonl')).map(({ step }) => step)).toEqual(
      Array.from({ length: step + 2 }, (_, i) => i + 1),
    );
  });

  // SIGTERM decides the exit code, otherwise the first signal does; rows with several say which may be first.
  type Row = [name: string, signals: [Role, NodeJS.Signals][], codes: number[]];
  test.each(
    rows<Row>(
      [
        [
          'SIGINT to all but the launcher, and again',
          [
            ['coordinator', 'SIGINT'],
            ['worker', 'SIGINT'],
            ['coordinator', 'SIGINT'],
            ['worker', 'SIGINT'],
          ],
          [130],
        ],
        [
          'everything to everybody, SIGTERM last',
          [
            ['worker', 'SIGUSR1'],
            ['coordinator', 'SIGUSR2'],
            ['launcher', 'SIGHUP'],
            ['launcher', 'SIGUSR1'],
            ['worker', 'SIGINT'],
            ['coordinator', 'SIGUSR1'],
            ['launcher', 'SIGTERM'],
            ['worker', 'SIGTERM'],
            ['coordinator', 'SIGHUP'],
            ['launcher', 'SIGTERM'],
          ],
          [143],
        ],
      ],
      [
        ['Ctrl-C', [['launcher', 'SIGINT']], [130]],
        ['SIGUSR1 to the launcher', [['launcher', 'SIGUSR1']], [138]],
        [
          'a closed terminal',
          [
            ['launcher', 'SIGHUP'],
            ['launcher', 'SIGHUP'],
          ],
          [129],
        ],
      ],
    ),
  )('%s', async (name, signals, codes) => {
    const { run, runDir, pids } = await training(name.replaceAll(/\W/g, ''));
    // The coordinator waits, so that all signals have come before the run can end.
    send(pids.coordinator, 'SIGSTOP');
    for (let round = 0; round < 3; round++) {
      for (const [role, signal] of signals) {
        // SIGINT comes again and again only where that means nothing.
        if (round === 0 || role !== 'launcher' || signal !== 'SIGINT') send(pids[role], signal);
      }
      await sleep(5); // a signal that is still pending swallows the next of its kind
    }
    send(pids.coordinator, 'SIGCONT');
    const outcome = await run.outcome;
    expect(codes, outcome.output).toContain(outcome.code);
    expectSaved(runDir, outcome.output);
  });

  test('two SIGINTs to the launcher within a second are one', async () => {
    const { run, runDir, pids } = await training('double');
    send(pids.coordinator, 'SIGSTOP');
    for (let i = 0; i < 5; i++) send(pids.launcher, 'SIGINT');
    send(pids.coordinator, 'SIGCONT');
    const { output } = await ends(run.outcome, 130);
    expect(output).toContain(
      'interrupted: finishing the step and writing a checkpoint\npress Ctrl-C again, a second or more from now, to stop without saving',
    );
    expectSaved(runDir, output);
  });

  test('a validation is abandoned, and not recorded', async () => {
    const runDir = join(folder, 'validation');
    // Thousands of forward passes follow every step.
    const run = new Launched(
      runDir,
      2,
      ...['--set', 'validation.every=1', '--set', 'validation.bins=1000', '--set', 'schedule.steps=1000'],
    );
    await run.says('step 1/');
    let slots: ValidatedSlots | null = null;
    while (slots === null) {
      const asked = await askStatus(runDir);
      if (asked !== 'other version') slots = asked?.validating_slots ?? null;
    }
    // Eight rows are two slots at each point, with two kinds of weights.
    expect(slots.total).toBe(2 * (1000 + EPSILON_LOG_SNRS.length) * 2);
    expect(slots.done).toBeGreaterThan(0);
    run.process.kill('SIGTERM');
    const { output } = await ends(run.outcome, 143);
    expect(output).toContain('validation at step 1 abandoned');
    expect(output).not.toContain('validation at step 1 |');
    const lines = readLines(join(runDir, 'metrics.jsonl'));
    expect(lines.map(({ type, step }) => [type, step])).toEqual([
      ['step', 1],
      ['step', 2],
      ['checkpoint', 2],
    ]);
    expectSaved(runDir, output);
  });
});

test('a second Ctrl-C, a second after the first, ends at once and says what is lost', async () => {
  const { run, runDir, pids, all } = await training('again');
  send(pids.coordinator, 'SIGSTOP'); // so that the orderly end cannot be quicker
  send(pids.launcher, 'SIGINT');
  await run.says('does not answer; press Ctrl-C again'); // a second after it was heard
  send(pids.launcher, 'SIGINT');
  const { output } = await ends(run.outcome, 3);
  const { step } = readLines(join(runDir, 'ledger.jsonl')).at(-1) as { step: number };
  expect(output).toMatch(
    new RegExp(`stopped without saving: there is no checkpoint yet: ${step} steps are lost\\n$`),
  );
  expect(all.filter(isAlive)).toEqual([]);
});

test('SIGTERM while the coordinator is away: the next one says of which step the state is saved', async () => {
  const { run, runDir, pids } = await training('while-away');
  send(pids.coordinator, 'SIGKILL');
  await run.says('it is started again in 1 s');
  send(pids.launcher, 'SIGTERM');
  expectSaved(runDir, (await ends(run.outcome, 143)).output);
});

test.each(['launch', 'launch and the coordinator'])(
  'SIGTERM to %s when the coordinator is just being started again: the state is saved',
  async (whom) => {
    const { run, runDir, pids } = await training(`starting-${whom.length}`);
    send(pids.coordinator, 'SIGKILL');
    const next = () =>
      childrenOf(pids.launcher).find(
        (child) => child !== pids.coordinator && commandOf(child).includes('coordinator'),
      );
    await expect.poll(next, { interval: 5 }).toBeDefined();
    if (whom !== 'launch') send(next()!, 'SIGTERM');
    send(pids.launcher, 'SIGTERM');
    expectSaved(runDir, (await ends(run.outcome, 143)).output);
  },
);

test('a coordinator that dies when it was told to stop is started again, and the state is saved', async () => {
  const { run, runDir, pids } = await training('dies-stopping');
  send(pids.coordinator, 'SIGSTOP');
  // Until then it would take SIGTERM first.
  await expect.poll(() => isSuspended(pids.coordinator)).toBe(true);
  send(pids.launcher, 'SIGTERM');
  await expect.poll(() => isPending(pids.coordinator, 'SIGTERM')).toBe(true);
  send(pids.coordinator, 'SIGKILL');
  expectSaved(runDir, (await ends(run.outcome, 143)).output);
});

test('a second Ctrl-C while the coordinator is away ends at once, too', async () => {
  const { run, runDir, pids, all } = await training('away');
  // So that the next coordinator cannot be quicker, however fast it is back.
  for (const worker of all.slice(2)) send(worker, 'SIGSTOP');
  send(pids.coordinator, 'SIGKILL');
  await run.says('it is started again in 1 s');
  send(pids.launcher, 'SIGINT');
  // Where it is back already, it says so itself.
  await expect
    .poll(() => run.output, { timeout: 60_000 })
    .toMatch(
      /the run stops when its coordinator is back; Ctrl-C again ends it without saving\n|press Ctrl-C again, a second or more from now, to stop without saving\n/,
    );
  await sleep(1_100);
  send(pids.launcher, 'SIGINT');
  const { output } = await ends(run.outcome, 3);
  const { step } = readLines(join(runDir, 'ledger.jsonl')).at(-1) as { step: number };
  expect(output).toContain(`stopped without saving: there is no checkpoint yet: ${step} step`);
  expect(await allDead(all)).toBe(true);
});

test('where the coordinator hangs, the launcher says what a second Ctrl-C does', async () => {
  const { run, pids } = await training('hung');
  send(pids.coordinator, 'SIGSTOP');
  send(pids.launcher, 'SIGINT');
  await run.says(
    `the coordinator (pid ${pids.coordinator}) does not answer; press Ctrl-C again to stop without saving\n`,
  );
  send(pids.launcher, 'SIGINT');
  await ends(run.outcome, 3);
});

describe('Ctrl-Z', () => {
  const STEPS = ['--set', 'schedule.steps=20'];

  test('suspends all processes, for longer than a silent worker may be, and the run goes on bit for bit', async () => {
    const { runDir: reference } = await undisturbed(...STEPS);
    // Shorter than the suspension.
    vi.stubEnv('ORCHESTRATOR_WATCHDOG', '3000:1');
    onTestFinished(() => void vi.unstubAllEnvs());
    const run = new Launched(
      join(folder, 'suspended'),
      PACED,
      ...['--nodes', '2', ...STEPS, '--set', 'exchange=grpc'],
    );
    await run.says('step 3/');
    const launcher = run.process.pid!;
    const all = [launcher, run.coordinator(), ...run.workers()];
    send(launcher, 'SIGTSTP');
    await expect.poll(() => all.every(isSuspended)).toBe(true);
    const ledger = readFileSync(join(run.runDir, 'ledger.jsonl'), 'utf8');
    await sleep(6_000);
    expect(readFileSync(join(run.runDir, 'ledger.jsonl'), 'utf8')).toBe(ledger);
    send(launcher, 'SIGCONT');
    const { output } = await ends(run.outcome, 0);
    expect(output).toContain('the run is suspended; fg or bg goes on with it\n');
    expect(output).toMatch(/^the run stood still for \d+ s: it was suspended, or waited for the disk$/m);
    expect(output).not.toMatch(/hangs|Lost/);
    expect(fingerprint(run.runDir, 20)).toEqual(fingerprint(reference, 20));
    // The suspension is in no step's time.
    const steps = readLines(join(run.runDir, 'metrics.jsonl')).filter(({ type }) => type === 'step');
    for (const { seconds } of steps) expect(seconds).toBeLessThan(6);
  });

  test('and then a signal or `stop` ends the run in order', async () => {
    const { run, runDir, all, pids } = await training('suspended-stopped');
    send(pids.launcher, 'SIGTSTP');
    await expect.poll(() => all.every(isSuspended)).toBe(true);
    expect(orchestrator('stop', runDir)).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/^stopped after step \d+, saved in /),
    });
    expectSaved(runDir, (await ends(run.outcome, 143)).output);
  });
});

describe('before the first step', () => {
  /** Calls `act` with the pids of the run's processes until it says that it is done or the run has ended. */
  async function early(
    name: string,
    act: (pids: { launcher: number; coordinator: number | undefined; worker: number | undefined }) => boolean,
  ) {
    const run = new Launched(join(folder, name), 2, ...LONG);
    const launcher = run.process.pid!;
    for (;;) {
      const [coordinator, worker] = childrenOf(launcher);
      if (!isAlive(launcher) || act({ launcher, coordinator, worker })) break;
      await sleep(1);
    }
    const outcome = await run.outcome;
    expect(outcome.output).not.toContain('Debugger listening');
    return outcome;
  }

  const NOTHING = 'stopped before the first step; there is nothing to save\n';

  /** It says once that nothing is to be saved. On a fast machine the first step may have been done by then. */
  function expectEarly(runDir: string, output: string, said: string): void {
    if (/^step 1\//m.test(output)) {
      expectSaved(runDir, output);
    } else {
      expect(output.split(NOTHING).length - 1, output).toBe(1);
      expect(output).toContain(said);
    }
  }

  test.each(rows([0, 20], [10, 40]))(
    'one SIGUSR1, which the launcher passes on %i ms after the start of its coordinator',
    async (after) => {
      const run = new Launched(join(folder, `passed${after}`), 2, ...LONG);
      const launcher = run.process.pid!;
      while (isAlive(launcher) && childrenOf(launcher).length === 0) await sleep(1);
      await sleep(after);
      send(launcher, 'SIGUSR1');
      const outcome = await run.outcome;
      expect(exitCodeOf(outcome), outcome.output).toBe(138);
      expectEarly(join(folder, `passed${after}`), outcome.output, `received SIGUSR1: ${NOTHING}`);
    },
  );

  test.each(rows([0, 100], [20, 300]))(
    'Ctrl-C %i ms after the start of the coordinator says so',
    async (after) => {
      const run = new Launched(join(folder, `interrupted${after}`), 2, ...LONG);
      const launcher = run.process.pid!;
      while (isAlive(launcher) && childrenOf(launcher).length === 0) await sleep(1);
      await sleep(after);
      send(launcher, 'SIGINT');
      const { output } = await ends(run.outcome, 130);
      expectEarly(join(folder, `interrupted${after}`), output, `interrupted: ${NOTHING}`);
    },
  );

  test('the launcher has no coordinator yet', async () => {
    const outcome = await early('lone', ({ launcher }) => {
      send(launcher, 'SIGTERM');
      return true;
    });
    expect(exitCodeOf(outcome)).toBe(143);
  });

  test.each(rows<'SIGTERM' | 'SIGUSR1'>(['SIGUSR1'], ['SIGTERM']))(
    '%s to a coordinator as soon as it is started',
    async (signal) => {
      const outcome = await early(`coordinator${signal}`, ({ coordinator }) => {
        if (coordinator === undefined) return false;
        // At the very first moment a signal may be lost or end the process; later it is handled.
        send(coordinator, signal);
        return !isAlive(coordinator);
      });
      expect(exitCodeOf(outcome), outcome.output).toBe(signal === 'SIGTERM' ? 143 : 138);
    },
  );

  test.each(rows<'SIGTERM' | 'SIGUSR1' | 'SIGINT'>(['SIGUSR1'], ['SIGTERM', 'SIGINT']))(
    '%s to a worker as soon as it is started',
    async (signal) => {
      const outcome = await early(`worker${signal}`, ({ worker }) => {
        if (worker === undefined) return false;
        send(worker, signal);
        return !isAlive(worker);
      });
      expect(exitCodeOf(outcome), outcome.output).toBe({ SIGTERM: 143, SIGUSR1: 138, SIGINT: 130 }[signal]);
    },
  );

  test('a worker whose coordinator does not answer', async () => {
    const silent = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => silent.once('listening', resolve));
    const { port } = silent.address() as { port: number };
    const connected = new Promise((resolve) => silent.once('connection', resolve));
    const worker = spawn(process.execPath, [MAIN, 'worker', '--credential', '-'], {
      stdio: ['pipe', 'inherit', 'inherit'],
    });
    worker.stdin!.end(`orch1.${'A'.repeat(43)}.${'0'.repeat(64)}@127.0.0.1:${port}`);
    const ended = new Promise((resolve) => worker.once('exit', (code) => resolve(code)));
    await connected;
    worker.kill('SIGTERM');
    expect(await ended).toBe(143);
    silent.close();
  });
});

test('SIGUSR1 to `orchestrator` at any moment of its start opens no debugger', async () => {
  const env = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env.PATH}` };
  const command = ['launch', TRAINING, '--run-dir', join(folder, 'script'), ...LONG];
  const launcher = spawn('./orchestrator', command, { stdio: ['ignore', 'pipe', 'pipe'], env });
  let output = '';
  for (const stream of [launcher.stdout, launcher.stderr]) {
    stream.on('data', (text) => {
      output += String(text);
    });
  }
  const ended = new Promise<number>((resolve) => {
    launcher.once('close', (code, signal) => resolve(exitCodeOf({ code, signal, output })));
  });
  while (isAlive(launcher.pid!)) {
    send(launcher.pid!, 'SIGUSR1');
    await sleep(1);
  }
  expect(await ended, output).toBe(138);
  expect(output).not.toContain('Debugger listening');
});

test('a command that is no run is ended by SIGUSR1, and opens no debugger', async () => {
  const child = spawn(
    process.execPath,
    [MAIN, 'dataset', 'shapes', '--out', join(folder, 'shapes'), '--count', '100000'],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (output += String(text)));
  const ended = new Promise((resolve) => child.once('close', (_, signal) => resolve(signal)));
  while (!output.includes('generating') && child.exitCode === null) await sleep(5);
  child.kill('SIGUSR1');
  expect(await ended, output).toBe('SIGUSR1');
  expect(output).not.toContain('Debugger');
});

test('under nohup a closed terminal does not stop the run', async () => {
  const runDir = join(folder, 'nohup');
  const script = `trap '' HUP; exec ./orchestrator launch ${TRAINING} --run-dir ${runDir} ${LONG.join(' ')}`;
  const env = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env.PATH}` };
  const launcher = spawn('bash', ['-c', script], { stdio: ['ignore', 'pipe', 'inherit'], env });
  let output = '';
  launcher.stdout.on('data', (text) => {
    output += String(text);
  });
  const ended = new Promise((resolve) => launcher.once('close', resolve));
  const step = async (number: number) => {
    while (!output.includes(`step ${number}/`) && launcher.exitCode === null) await sleep(5);
  };
  await step(3);
  launcher.kill('SIGHUP');
  await step(9);
  launcher.kill('SIGTERM');
  expect(await ended, output).toBe(143);
  expect(output).not.toContain('SIGHUP');
  expectSaved(runDir, output);
});
