/**
 * Workers that are cut off, with steps that nobody else holds, from a run that ends meanwhile: they come back with them.
 * A process that is stopped is cut off as one behind a broken network is.
 */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import { temporaryFolder } from '../support/folders.js';
import { ends, fingerprint, launch, readLines, TRAINING } from '../support/launched.js';
import { PACED } from '../support/paced.js';
import { MAIN } from '../support/program.js';

const settings = (...all: string[]) => all.flatMap((set) => ['--set', set]);
const ENDLESS = settings('schedule.steps=1000000', 'schedule.decay=constant', 'checkpoint.every=1000000');

const started = new Set<Program>();
afterEach(() => {
  for (const { process } of started) process.kill('SIGKILL');
  started.clear();
});

class Program {
  readonly process;
  readonly code: Promise<number | null>;
  printed = '';

  constructor(...words: string[]) {
    this.process = spawn(process.execPath, [MAIN, ...words], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...PACED.env },
    });
    started.add(this);
    for (const stream of [this.process.stdout, this.process.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.printed += text;
      });
    }
    this.code = new Promise((resolve) => this.process.once('close', resolve));
  }

  async says(text: string | RegExp): Promise<void> {
    while (this.printed.search(text) < 0) {
      if (this.process.exitCode !== null) throw new Error(`ended without "${text}":\n${this.printed}`);
      await sleep(5);
    }
  }

  async ends(code: number): Promise<void> {
    expect(await this.code, this.printed).toBe(code);
  }
}

const coordinate = (runDir: string, patience: string) =>
  new Program(
    'coordinator',
    TRAINING,
    '--workers',
    '1',
    '--run-dir',
    runDir,
    '--patience',
    patience,
    ...ENDLESS,
  );

/** A coordinator and its worker, which no launcher has started, and which is cut off after some steps. */
async function cutOff(patience: string) {
  const runDir = temporaryFolder();
  const run = coordinate(runDir, patience);
  await run.says('credential of workers');
  const worker = new Program('worker', '--join', runDir);
  await run.says(/step 6\//);
  worker.process.kill('SIGSTOP');
  await run.says('no sign of life');
  return { runDir, run, worker };
}

const lastStep = (runDir: string) => readLines(join(runDir, 'ledger.jsonl')).at(-1)!.step as number;

/** What was trained is what a run that nothing disturbs trains in as many steps. */
async function expectBits(runDir: string): Promise<void> {
  const steps = lastStep(runDir);
  const other = join(temporaryFolder(), 'undisturbed');
  await ends(launch(other, 1, ...ENDLESS, ...settings(`schedule.steps=${steps}`)), 0);
  const bits = (dir: string) => ({ ...fingerprint(dir, steps), validation: null });
  expect(bits(runDir)).toEqual(bits(other));
}

test('a run that is asked to stop waits for them, says so, and they write its checkpoint', async () => {
  const { runDir, run, worker } = await cutOff('10m');
  run.process.kill('SIGINT');
  await run.says(
    /waiting up to 30 s for worker \S+ \(pid \d+ on .*\) to come back: nobody else holds the steps after the last checkpoint/,
  );
  await run.says('press Ctrl-C again');
  worker.process.kill('SIGCONT');
  await Promise.all([run.ends(130), worker.ends(130)]);
  expect(readdirSync(join(runDir, 'checkpoints'))).toEqual([
    `step-${String(lastStep(runDir)).padStart(8, '0')}`,
  ]);
  await expectBits(runDir);
});

test('a run that has failed because they did not come in time goes on with them when it is started again', async () => {
  const { runDir, run, worker } = await cutOff('10s');
  await run.ends(1);
  const recorded = lastStep(runDir);
  const again = coordinate(runDir, '10s');
  await again.says('credential of workers');
  worker.process.kill('SIGCONT');
  await again.says(/the run continues after step \d+, whose state its workers have kept/);
  const [kept] = /(?<=continues after step )\d+/.exec(again.printed)!;
  // Nothing was ever saved.
  expect(Number(kept)).toBeGreaterThanOrEqual(recorded - 1);
  again.process.kill('SIGTERM');
  await Promise.all([again.ends(143), worker.ends(143)]);
  await expectBits(runDir);
});
