/** Runs whose checkpoints fail, come late, or are interrupted by kill -9. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { resolveResume } from '../../src/checkpoint/resume.js';
import { faultyDisk, noFaultyDisk } from '../support/faulty-disk.js';
import { temporaryFolder } from '../support/folders.js';
import { FULL, rows } from '../support/full.js';
import { allDead, ends, fingerprint, Launched, launch, readLines } from '../support/launched.js';
import { unmountable } from '../support/mountable.js';
import { because } from '../support/needs.js';
import { undisturbed } from '../support/undisturbed.js';

const STEPS = 6;
const settings = (...all: string[]) => all.flatMap((set) => ['--set', set]);
/** The second checkpoint waits for the first, because it is the last: none is left out. */
const SHORT = settings(`schedule.steps=${STEPS}`, 'checkpoint.every=3', 'validation.every=3');
const [FIRST, LAST] = ['step-00000003', 'step-00000006'];
const KILLS = Number(process.env.RUN_KILLS ?? (FULL ? 4 : 2));
const folder = temporaryFolder();

let reference: Record<string, unknown>;
beforeAll(async () => {
  reference = fingerprint((await undisturbed(...SHORT)).runDir, STEPS);
});
afterEach(() => {
  vi.unstubAllEnvs();
});

const checkpoints = (runDir: string) => readdirSync(join(runDir, 'checkpoints')).sort();
const missed = (runDir: string) =>
  readLines(join(runDir, 'metrics.jsonl'))
    .filter(({ type }) => type === 'missed_checkpoint')
    .map(({ step, reason }) => `${reason} ${step}`);

describe.skipIf(noFaultyDisk)(because('a disk', noFaultyDisk), () => {
  test.each(
    rows<['EIO' | 'flips', string]>(
      [['flips', 'what was written reads back otherwise']],
      [['EIO', 'the device reports an input/output error (EIO)']],
    ),
  )('%s at a checkpoint: the run goes on to the same end', async (fault, why) => {
    const runDir = join(folder, fault);
    faultyDisk(`.partial-${FIRST}`, fault);
    const { output } = await ends(launch(runDir, 2, ...SHORT), 0);
    const [line] = output.match(/^warn ERR_CHECKPOINT_WRITE: .*$/gm)!;
    expect(line).toContain('The checkpoint of step 3 was not written');
    expect(line).toContain(why);
    expect(line).toContain(`.partial-${FIRST}`);
    expect(output).toContain('Training goes on. There is no checkpoint yet');
    expect(missed(runDir)).toEqual(['failed 3']);
    expect(checkpoints(runDir)).toEqual([LAST]);
    expect(fingerprint(runDir, STEPS)).toEqual(reference);
  });

  test('EIO at the last checkpoint: the run has failed, and is gone on with from the one before', async () => {
    const runDir = join(folder, 'last');
    faultyDisk(`.partial-${LAST}`, 'EIO');
    const { output } = await ends(launch(runDir, 2, ...SHORT), 1);
    expect(output).toMatch(/^error ERR_CHECKPOINT_WRITE: The checkpoint of step 6 was not written: .*EIO/m);
    expect(output).toMatch(/^hint: The last checkpoint is that of step 3: `--resume auto`/m);
    expect(checkpoints(runDir)).toEqual([FIRST]);
    vi.unstubAllEnvs();
    await ends(launch(runDir, 1, ...SHORT), 0);
    expect(checkpoints(runDir)).toEqual([FIRST, LAST]);
    expect(fingerprint(runDir, STEPS)).toEqual(reference);
  });

  test('that is slow holds up the end, not the training: checkpoints that are due meanwhile are left out', async () => {
    const [runDir, release] = [join(folder, 'slow'), join(folder, 'release')];
    faultyDisk('.partial-step-00000002', 'slow', release);
    const run = new Launched(runDir, 2, ...SHORT, ...settings('checkpoint.every=2'));
    await run.says(`step ${STEPS}/${STEPS}`);
    expect(run.output).toMatch(
      /^warn ERR_CHECKPOINT_WRITE: No checkpoint of step 4: that of step 2 is still being written; training goes on\nhint: .*checkpoint\.every/m,
    );
    expect(checkpoints(runDir)).toEqual([expect.stringMatching(/^\.partial-step-00000002-/)]);
    writeFileSync(release, '');
    await ends(run.outcome, 0);
    expect(missed(runDir)).toEqual(['skipped 4']);
    expect(checkpoints(runDir)).toEqual(['step-00000002', LAST]);
    expect(fingerprint(runDir, STEPS)).toEqual(reference);
  });
});

test('keep_every keeps its multiples beside the latest', async () => {
  const runDir = join(folder, 'multiples');
  const sets = ['checkpoint.every=2', 'checkpoint.keep=1', 'checkpoint.keep_every=2', 'validation.every=0'];
  await ends(launch(runDir, 1, ...SHORT, ...settings(...sets)), 0);
  // On a slow disk some were left out; none was removed.
  const skipped = missed(runDir).map((line) => Number(line.split(' ')[1]));
  const expected = [2, 4, 6].filter((step) => !skipped.includes(step));
  expect(checkpoints(runDir)).toEqual(expected.map((step) => `step-${String(step).padStart(8, '0')}`));
});

describe.skipIf(unmountable)(because('a disk without room', unmountable), () => {
  test('for one checkpoint is told before the first step, and nothing is made', async () => {
    const disk = join(folder, 'small');
    execFileSync('mkdir', [disk]);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', disk]);
    try {
      const runDir = join(disk, 'run');
      for (const dry of [[], ['--dry-run']]) {
        const { output } = await ends(launch(runDir, 1, ...dry), 1);
        expect(output).toMatch(
          /^error ERR_CHECKPOINT_WRITE: A checkpoint of this run needs 19\.\d MiB and 4\.0 MiB for its records, and the disk of .* has 1[56]\.\d MiB free: there is no room for one checkpoint\nhint: /m,
        );
      }
      expect(existsSync(runDir)).toBe(false);
      execFileSync('mount', ['-o', 'remount,size=40m', disk]);
      const { output } = await ends(launch(runDir, 1, '--dry-run'), 0);
      expect(output).toMatch(
        /^disk {5}19\.\d MiB a checkpoint, up to \d at once: \S+ MiB; .*(40\.0|39\.9) MiB are free$/m,
      );
      expect(output).toMatch(/^warn A checkpoint of this run needs .*, and .* will hold up to 2 at once: /m);
    } finally {
      execFileSync('umount', ['-l', disk]);
    }
  });
});

test(`rank 0 or the coordinator killed at ${KILLS} moments around a checkpoint: each start resumes from the last`, async () => {
  const runDir = join(folder, 'killed');
  const sets = settings('schedule.steps=1000000', 'checkpoint.every=1', 'validation.every=0');
  let announced = 0;
  let leftovers = 0;
  for (let kill = 0; kill < KILLS; kill++) {
    const before = existsSync(runDir) ? checkpoints(runDir).filter((name) => name.startsWith('.')) : [];
    const fixed = ['--min-workers', '2', '--max-restarts', '0'];
    const run = new Launched(runDir, 2, ...sets, ...fixed);
    await run.says('\ncheckpoint of step');
    // The next one is being written, verified, published, or old ones are being removed.
    await sleep(Math.random() * 300);
    const processes = [run.coordinator(), ...run.workers()];
    process.kill(processes[kill % 2]!, 'SIGKILL');
    const { output } = await run.outcome;
    expect(await allDead(processes)).toBe(true);
    if (announced > 0) expect(output).toContain(`(step ${announced})`);
    for (const name of before) {
      expect(output).toContain(`removed the leftover ${name}`);
      expect(checkpoints(runDir)).not.toContain(name);
    }
    leftovers += before.length;
    const steps = [...output.matchAll(/^checkpoint of step (\d+)/gm)].map(([, step]) => Number(step));
    const found = (await resolveResume('auto', runDir))!;
    expect(found.damaged).toEqual([]);
    expect(found.manifest.step).toBeGreaterThanOrEqual(steps.at(-1)!);
    announced = found.manifest.step;
  }
  const last = new Launched(runDir, 1, ...sets);
  await last.says('\ncheckpoint of step');
  last.process.kill('SIGTERM');
  await ends(last.outcome, 143);
  expect(checkpoints(runDir).every((name) => name.startsWith('step-'))).toBe(true);
  if (KILLS >= 20) expect(leftovers).toBeGreaterThan(0);
}, 900_000);
