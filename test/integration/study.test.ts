/** A study in miniature: killed, stopped, gone on with and changed, it comes to the same report. */
import { spawn } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { lockOwner } from '../../src/native/lock.js';
import { temporaryFolder } from '../support/folders.js';
import {
  allDead,
  childrenOf,
  commandOf,
  isPending,
  isSuspended,
  type Outcome,
  readLines,
} from '../support/launched.js';
import { MAIN, orchestratorIn, succeeds } from '../support/program.js';

const folder = temporaryFolder();
const file = join(folder, 'mini.yaml');
const text = (steps = 12) => `
name: mini
config: ${resolve('configs/shapes-tiny.yaml')}
set:
  schedule: {steps: ${steps}, warmup: 2}
  validation: {every: 4, bins: 2, weights: [ema]}
  checkpoint: {every: 2, keep: 1}
data:
  photos:
    path: photos
    generate: {pictures: photos, count: 128}
vary:
  objective.formulation: ['rf/lognorm(0,1)', v/cos]
evaluation:
  pictures: 6
  reference: 40
  replicates: 20
  samplers:
    - {steps: 1, guidance: 2}
    - {steps: 3, guidance: 2}
  shown: 1
`;

const runs = ['photos.rf-lognorm-0-1.seed-0', 'photos.v-cos.seed-0'];
const program = (...parameters: string[]) => orchestratorIn({ cwd: folder }, ...parameters);
const study = (dir: string, ...more: string[]) => program('study', 'run', file, '--dir', dir, ...more);

/** Starts a study, and lets the caller do something to it. */
async function interrupted(dir: string, interrupt: (pid: number) => Promise<void>): Promise<Outcome> {
  const child = spawn(process.execPath, [MAIN, 'study', 'run', file, '--dir', dir, '--jobs', '1'], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8');
    stream.on('data', (some: string) => {
      output += some;
    });
  }
  const ended = new Promise<Outcome>((done) => {
    child.once('close', (code, signal) => done({ code, signal, output }));
  });
  await interrupt(child.pid!);
  return await ended;
}

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await sleep(10);
}

/** The first that there is. */
async function appears<T>(find: () => T | null | undefined): Promise<T> {
  for (;;) {
    const one = find();
    if (one !== null && one !== undefined) return one;
    await sleep(10);
  }
}

/** A report without what differs between two runs of the same study: times, and the command. */
function comparable(dir: string) {
  const { command, core_seconds, date, hardware, variants, ...rest } = JSON.parse(
    readFileSync(join(folder, dir, 'report', 'report.json'), 'utf8'),
  );
  return {
    ...rest,
    variants: variants.map((variant: { runs: Record<string, unknown>[] }) => ({
      ...variant,
      runs: variant.runs.map(({ training_seconds, scoring_seconds, ...run }) => run),
    })),
  };
}

beforeAll(() => {
  writeFileSync(file, text());
  succeeds(study('whole'));
  succeeds(program('study', 'report', 'whole'));
});

describe('study', () => {
  test('trains, scores and reports every variant, in ordinary run folders', () => {
    const found = comparable('whole');
    expect(found.variants.map(({ name }: { name: string }) => name)).toEqual(['rf/lognorm(0,1)', 'v/cos']);
    for (const { ranks, settings, losses, runs: own } of found.variants) {
      expect(ranks.all.mean).toBeGreaterThanOrEqual(1);
      expect(settings).toHaveLength(4);
      for (const { followed, frechet } of settings) {
        expect(followed.mean).toBeGreaterThanOrEqual(0);
        expect(frechet.mean).toBeGreaterThan(found.real.photos.frechet / 10);
        expect(frechet.interval.low).toBeLessThanOrEqual(frechet.mean);
        expect(frechet.interval.high).toBeGreaterThanOrEqual(frechet.mean);
      }
      expect(losses.photos.epsilon_error.mean).toBeGreaterThan(0);
      expect(own).toMatchObject([{ state: 'scored', best: { step: expect.any(Number) } }]);
    }
    for (const run of runs) {
      expect(readLines(join(folder, 'whole', run, 'metrics.jsonl')).length).toBeGreaterThan(12);
      // Only the checkpoint that was scored is kept.
      const { step } = JSON.parse(readFileSync(join(folder, 'whole', run, 'scores.json'), 'utf8'));
      const kept = `step-${String(step).padStart(8, '0')}`;
      expect(readdirSync(join(folder, 'whole', run, 'checkpoints'))).toEqual([kept]);
    }
    const report = readFileSync(join(folder, 'whole/report/report.md'), 'utf8');
    // Where its folder is on this machine is not told to others.
    expect(report).toContain(`\`orchestrator study run ${file}\``);
    const images = [...report.matchAll(/!\[[^\]]*\]\(([^)]+)\)/g)].map(([, name]) => name!);
    expect(images).toEqual(['ranks.svg', 'steps.svg', 'scatter.svg', 'curves.svg', 'pictures-photos.jpg']);
    for (const name of [...images, 'curves.png']) {
      expect(statSync(join(folder, 'whole/report', name)).size).toBeGreaterThan(500);
    }
  });

  test('does nothing again that is complete', () => {
    const before = readFileSync(join(folder, 'whole/journal.jsonl'), 'utf8');
    const again = study('whole');
    succeeds(again);
    expect(again.stderr).toContain('2/2 runs complete');
    expect(readFileSync(join(folder, 'whole/journal.jsonl'), 'utf8')).toBe(before);
  });

  test('killed in training, stopped in scoring, it goes on to the same report', async () => {
    const runDir = join(folder, 'parts', runs[0]!);
    const killed = await interrupted('parts', async (pid) => {
      const checkpoints = join(runDir, 'checkpoints');
      const names = () => (existsSync(checkpoints) ? readdirSync(checkpoints) : []);
      await until(() => names().some((name) => name.startsWith('step-')));
      const coordinator = lockOwner(join(runDir, 'lock'))?.pid;
      process.kill(pid, 'SIGKILL');
      // What it had started ends by itself.
      expect(await allDead(coordinator === undefined ? [] : [coordinator])).toBe(true);
    });
    expect(killed.signal).toBe('SIGKILL');
    const stopped = await interrupted('parts', async (pid) => {
      const child = await appears(() => childrenOf(pid).find((one) => commandOf(one).includes('score')));
      // So that it cannot end before it is told to.
      process.kill(child, 'SIGSTOP');
      await until(() => isSuspended(child)); // two signals at once may be taken in either order
      process.kill(pid, 'SIGTERM');
      await until(() => isPending(child, 'SIGTERM'));
      process.kill(child, 'SIGCONT');
    });
    expect(stopped).toMatchObject({ code: 143 });
    const { run, event, part } = readLines(join(folder, 'parts/journal.jsonl')).at(-1)!;
    expect([run, event, part]).toEqual([runs[0], 'stopped', 'scoring']);
    expect(stopped.output).toContain('stopped; the same command goes on');
    succeeds(study('parts'));
    succeeds(program('study', 'report', 'parts'));
    expect(comparable('parts')).toEqual(comparable('whole'));
  });

  test('a budget that is used up stops in order', () => {
    const started = study('budget', '--budget', '1');
    expect(started.status).toBe(4);
    expect(started.stderr).toContain('the budget is used up; the same command goes on');
    expect(started.stderr).toMatch(/[01]\/2 runs complete/);
  });
});

describe('a study whose file has changed', () => {
  const copy = () => {
    rmSync(join(folder, 'changed'), { recursive: true, force: true });
    cpSync(join(folder, 'whole'), join(folder, 'changed'), { recursive: true });
  };

  test('refuses runs of another configuration, or trains them again', () => {
    copy();
    writeFileSync(file, text(8));
    try {
      const refused = study('changed');
      expect(refused.status).toBe(1);
      expect(refused.stderr).toContain(`ERR_STUDY: 2 runs were trained with another configuration`);
      expect(refused.stderr).toContain(`${runs[0]}: schedule.steps was 12 and is 8`);
      const only = ['--only', 'v/cos', '--rerun-changed'];
      const again = study('changed', ...only);
      succeeds(again);
      expect(again.stderr).toContain(`${runs[1]}: schedule.steps was 12 and is 8; it is run again`);
      const aside = readdirSync(join(folder, 'changed')).filter((name) => name.startsWith('superseded-'));
      expect(aside).toHaveLength(1);
      const steps = readLines(join(folder, 'changed', runs[1]!, 'ledger.jsonl')).map(({ step }) => step);
      expect(steps.at(-1)).toBe(8);
    } finally {
      writeFileSync(file, text());
    }
  });

  test('scores again what is trained, if only the evaluation has changed', () => {
    copy();
    writeFileSync(file, text().replace('pictures: 6', 'pictures: 4'));
    try {
      succeeds(study('changed'));
      const events = readLines(join(folder, 'changed/journal.jsonl')).map(({ event }) => event);
      expect(events.filter((event) => event === 'trained')).toHaveLength(2);
      expect(events.filter((event) => event === 'scored')).toHaveLength(4);
    } finally {
      writeFileSync(file, text());
    }
  });
});

test('a run that fails is reported, and the others go on', () => {
  const dir = join(folder, 'failing');
  // A folder of data in the place of a run's.
  mkdirSync(join(dir, runs[0]!), { recursive: true });
  writeFileSync(join(dir, runs[0]!, 'model_index.json'), '{}');
  const done = study('failing');
  expect(done.status).toBe(1);
  expect(done.stderr).toContain(`failed: ${runs[0]}: ERR_RUN_DIR: `);
  expect(done.stderr).toContain('1/2 runs complete');
  succeeds(program('study', 'report', 'failing'));
  const report = readFileSync(join(dir, 'report/report.md'), 'utf8');
  expect(report).toContain(`- ${runs[0]} failed: ${runs[0]}: ERR_RUN_DIR: `);
});

test('a run that somebody stops is not complete, and the others go on', async () => {
  const { code, output } = await interrupted('stopped', async () => {
    const lock = join(folder, 'stopped', runs[0]!, 'lock');
    process.kill((await appears(() => lockOwner(lock))).pid, 'SIGTERM');
  });
  expect(output).toContain(`failed: ${runs[0]}: was stopped by SIGTERM, and not by the study`);
  expect(output).toContain('1/2 runs complete');
  expect(code).toBe(1);
  const events = readLines(join(folder, 'stopped/journal.jsonl'));
  expect(events.find(({ event }) => event === 'failed')!.seconds).toBeGreaterThan(0);
});

test.each([
  ['a folder that is no study', ['study', 'report', '.'], 1, /ERR_RUN_DIR: \. is not the folder of a study/],
  [
    'a variant that is not there',
    ['study', 'run', file, '--only', 'v/coss'],
    2,
    /no variant "v\/coss"; did you mean v\/cos/,
  ],
  ['a run that is not there', ['study', 'score', 'whole', 'photos'], 2, /has no run "photos"/],
  ['--quick without what it changes', ['study', 'run', file, '--quick'], 2, /has no "quick"/],
  ['a time that is none', ['study', 'run', file, '--budget', 'soon'], 2, /--budget.*Expected a time/],
])('refuses %s', (_, parameters, status, message) => {
  const refused = program(...parameters);
  expect(refused.stderr).toMatch(message);
  expect(refused.status).toBe(status);
});
