/**
 * Faults in the middle of native code: whatever dies, is stopped or hangs where, the run ends in the bits of one that
 * nothing disturbs, and nothing is left over. They need an addon of their own, which `.ci/run` builds.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { send } from '../support/endless-run.js';
import { FAULT_ADDON, NATIVE_POINTS, noFaultAddon } from '../support/fault-addon.js';
import { temporaryFolder } from '../support/folders.js';
import { FULL } from '../support/full.js';
import { ends, fingerprint, isAlive, isSuspended, Launched, launch } from '../support/launched.js';
import { expectNothingLeft, marked } from '../support/left-over.js';
import { because } from '../support/needs.js';

/** Who is slow may get no piece of a shared update: there are some to come. */
const STEPS = 12;
/** There is a checkpoint of it. The fault comes at this step or a later one. */
const AT = 3;
const settings = (...all: string[]) => all.flatMap((set) => ['--set', set]);
const SETTINGS = settings(`schedule.steps=${STEPS}`, `checkpoint.every=${AT}`, 'validation.every=6');

type How = 'kill' | 'segv' | 'stop' | 'hang';
type Case = [worker: string, point: string, how: How, exchange: 'shared' | 'grpc'];
/** Rank 0 writes the checkpoints. */
const CASES: Case[] = [
  ['local-1', 'forward', 'kill', 'shared'],
  ['local-0', 'forward', 'segv', 'grpc'],
  ['local-1', 'forward', 'hang', 'grpc'],
  ['local-0', 'backward', 'kill', 'shared'],
  ['local-1', 'backward', 'segv', 'shared'],
  ['local-1', 'backward', 'kill', 'grpc'],
  ['local-0', 'backward', 'stop', 'grpc'],
  ['local-0', 'summing', 'kill', 'shared'],
  ['local-1', 'summing', 'segv', 'shared'],
  ['local-1', 'summing', 'stop', 'shared'],
  ['local-1', 'summing', 'hang', 'shared'],
  ['local-1', 'adding', 'kill', 'grpc'],
  ['local-0', 'adding', 'hang', 'grpc'],
  ['local-0', 'updating', 'kill', 'shared'],
  ['local-1', 'updating', 'stop', 'shared'],
  ['local-1', 'updating', 'hang', 'shared'],
  ['local-1', 'updating', 'segv', 'grpc'],
  ['local-0', 'updating', 'hang', 'grpc'],
  ['local-0', 'stamping', 'kill', 'shared'],
  ['local-1', 'stamping', 'segv', 'shared'],
  ['local-1', 'stamping', 'hang', 'shared'],
  ['local-0', 'hashing', 'kill', 'shared'],
  ['local-1', 'hashing', 'hang', 'grpc'],
  ['local-0', 'copying', 'kill', 'shared'],
  ['local-0', 'copying', 'stop', 'shared'],
  ['local-0', 'copying', 'hang', 'shared'],
  ['local-0', 'copying', 'hang', 'grpc'],
  ['local-0', 'staging', 'kill', 'grpc'],
  ['local-0', 'staging', 'segv', 'shared'],
];
const SAYS: Record<How, string> = {
  kill: 'is sent SIGKILL',
  segv: 'writes to nowhere',
  stop: 'is sent SIGSTOP',
  hang: 'hangs',
};

const folder = temporaryFolder();
const undisturbed = join(folder, 'undisturbed');
afterEach(() => vi.unstubAllEnvs());

/** A run of the addon with fault points that has these faults, its folder of temporary files, and what is expected. */
function disturbed(name: string, faults: string, nodes: string, ...more: string[]) {
  const runDir = join(folder, name);
  const temporary = join(folder, `${name}-temporary`);
  mkdirSync(temporary);
  const env = {
    ...marked(runDir, temporary),
    ORCHESTRATOR_ADDON: FAULT_ADDON,
    ORCHESTRATOR_FAULT: faults,
    // Before the coordinator, which hears nothing for 3 seconds from one whose event loop stands.
    ORCHESTRATOR_WATCHDOG: faults.includes(':hang') ? '2000:1' : '',
  };
  const run = new Launched(runDir, { before: [], env }, '--nodes', nodes, ...SETTINGS, ...more);
  const endsUndisturbed = async () => {
    const { output } = await ends(run.outcome, 0);
    expect(fingerprint(runDir, STEPS)).toEqual(fingerprint(undisturbed, STEPS));
    await expectNothingLeft(runDir, temporary);
    return output;
  };
  return { run, endsUndisturbed };
}

describe.runIf(FULL)(because('faults of native code', noFaultAddon), () => {
  const needed = test.skipIf(noFaultAddon);
  beforeAll(async () => {
    if (noFaultAddon === null) await ends(launch(undisturbed, 1, ...SETTINGS), 0);
  });

  test('every point has a case', () => {
    const tested = [...CASES.map(([, point]) => point), 'mending', 'serving'];
    expect([...new Set(tested)].sort()).toEqual([...NATIVE_POINTS].sort());
  });

  needed.each(CASES)('%s at %s: %s, %s', async (worker, point, how, exchange) => {
    const name = `${worker}-${point}-${how}-${exchange}`;
    const fault = `${worker}:${point}:${AT}:${how}`;
    const { run, endsUndisturbed } = disturbed(name, fault, '2', ...settings(`exchange=${exchange}`));
    if (how === 'stop') {
      await run.says('step 1/');
      const stopped = run.workers()[Number(worker.at(-1))]!;
      let ran = performance.now();
      const stands = () => {
        // It is given up, and is gone, where this test stands for longer than a worker may be silent.
        if (!isAlive(stopped) || isSuspended(stopped)) return true;
        ran = performance.now();
        return false;
      };
      await expect.poll(stands, { timeout: 60_000, interval: 5 }).toBe(true);
      send(stopped, 'SIGCONT');
      const stood = performance.now() - ran;
      expect(await endsUndisturbed()).toContain(SAYS.stop);
      // So short a stop is no fault.
      if (stood < 2_000) expect(run.output).not.toContain('Lost');
      return;
    }
    const output = await endsUndisturbed();
    expect(output).toContain(`ORCHESTRATOR_FAULT: this worker ${SAYS[how]} at ${point}`);
    if (how === 'hang')
      expect(output).toMatch(/warn \[worker \d\] this worker hangs and is ended: .* for [2-9]\.\d s/);
    if (how === 'segv') expect(output).toMatch(/rank [01] .* crashed with SIGSEGV/);
    expect(output).toMatch(/rank [01] .*; 1 worker goes on/);
  });

  needed('a worker that is stopped in the middle of a shared update for longer is killed', async () => {
    const fault = `local-1:updating:${AT}:stop`;
    const { run, endsUndisturbed } = disturbed('long-stop', fault, '2', ...settings('exchange=shared'));
    await run.says(SAYS.stop);
    const stopped = run.workers()[1]!;
    await run.says('Lost rank 1');
    await endsUndisturbed();
    expect(isAlive(stopped)).toBe(false);
  });

  needed('who mends an update dies, and nobody is left who knows it', async () => {
    const faults = `local-1:stamping:${AT}:kill,local-0:mending:1:kill`;
    const { endsUndisturbed } = disturbed('mending', faults, '2', ...settings('exchange=shared'));
    const output = await endsUndisturbed();
    expect(output).toContain('is sent SIGKILL at stamping');
    expect(output).toContain('is sent SIGKILL at mending');
  });

  needed.each(['kill', 'hang'] as const)('the only one who has the state sends it: %s', async (how) => {
    const faults = `local-1:prepare:${AT}:kill,local-0:serving:1:${how}`;
    const more = ['--min-workers', '2', ...settings('exchange=grpc')];
    const { endsUndisturbed } = disturbed(`serving-${how}`, faults, '2', ...more);
    const output = await endsUndisturbed();
    expect(output).toContain(`${SAYS[how]} at serving`);
  });
});
