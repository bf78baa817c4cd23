/**
 * The remaining time of runs whose durations were recorded (2026-11-27, two cores with AVX-512 BF16), as the coordinator
 * is told of them. `clock` is `wall` where nothing else ran. The others ran on a machine with a load of 3 to 25, of which
 * the time of day would consist. They are in processor time, of the only worker, or of the coordinator and both workers
 * divided by two; the writing of a checkpoint is in the steps beside it, as where no processor is idle. Other programs
 * change the processor time, too, since caches and memory are shared.
 */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { Pace } from '../../../src/coordinator/pace.js';
import { generator } from '../../support/random.js';

/** A step with its milliseconds and the share of its forward passes, or something else with its milliseconds. */
const event = z.union([
  z.tuple([z.number(), z.number()]),
  z.tuple([z.enum(['validation', 'checkpoint']), z.number()]),
]);

const recorded = z
  .array(
    z.strictObject({
      run: z.string(),
      clock: z.enum(['wall', 'processor']),
      steps: z.number(),
      attention_every: z.number(),
      validate_every: z.number(),
      validation_passes: z.number(),
      checkpoint_every: z.number(),
      checkpoint_bytes: z.number(),
      after_last_step_ms: z.number(),
      events: z.array(event),
    }),
  )
  .parse(JSON.parse(readFileSync('test/fixtures/paces/recorded.json', 'utf8')));

type Recorded = (typeof recorded)[number];

const undisturbed = recorded.filter(({ clock }) => clock === 'wall');
const disturbed = recorded.filter(({ clock }) => clock === 'processor');

/** Runs of which more than a tenth too much or too little is told at first, and the most of it, as a share. */
const WRONG_AT_FIRST: Readonly<Record<string, number>> = {
  'configs/shapes-cpu.yaml, hidden 384, 2 workers, 64 rows held out': 0.24,
  'test/integration/training.yaml, hidden 256, depth 4, 2 workers, no validation': 0.15,
  'test/integration/training.yaml, 2 workers': 0.3,
  'test/integration/training.yaml, 400 steps': 0.2,
};

interface Told {
  /** By how much the remaining time is too long, as a share of what it was. */
  error: number;
  isRough: boolean;
}

/** What is told after each step. */
function replayed(run: Recorded): Map<number, Told> {
  const pace = new Pace({
    firstStep: 1,
    steps: run.steps,
    attentionEvery: run.attention_every,
    validateEvery: run.validate_every,
    validationPasses: run.validation_passes,
    checkpointEvery: run.checkpoint_every,
    checkpointBytes: run.checkpoint_bytes,
  });
  let [step, clock] = [0, 0];
  const told: { step: number; clock: number; seconds: number; isRough: boolean }[] = [];
  for (const [what, value] of run.events) {
    if (what === 'checkpoint') pace.saved(value / 1000);
    else {
      const seconds = (what === 'validation' ? value : what) / 1000;
      clock += seconds;
      if (what === 'validation') pace.validated(seconds);
      else pace.add(++step, seconds, value);
    }
    const remaining = pace.remaining(step);
    if (typeof what === 'number' && remaining !== null) told.push({ step, clock, ...remaining });
  }
  expect(step).toBe(run.steps);
  const end = clock + run.after_last_step_ms / 1000;
  return new Map(
    told.map(({ isRough, ...one }) => [one.step, { error: one.seconds / (end - one.clock) - 1, isRough }]),
  );
}

/** Steps at which estimates count: in the last tenth, small errors are a large share of what remains. */
const counts = (run: Recorded, step: number) => step >= 10 && step <= 0.9 * run.steps;
const isWrong = ({ error }: Told) => Math.abs(error) > 0.1;
const isRough = (told: Told) => told.isRough;
const shareOf = <T>(all: readonly T[], is: (one: T) => boolean) => all.filter(is).length / all.length;

const toldOf = (runs: readonly Recorded[]) =>
  runs.flatMap((run) => [...replayed(run)].filter(([step]) => counts(run, step)).map(([, told]) => told));

/** How many times as often those that are marked are wrong as the others. */
function discrimination(all: readonly Told[], isMarked = isRough): number {
  const others = all.filter((one) => !isMarked(one));
  return shareOf(all.filter(isMarked), isWrong) / shareOf(others, isWrong);
}

test.each(recorded)('at first it is wrong by no more than is known: $run', (run) => {
  const told = replayed(run);
  const wrong = Math.max(...[10, 15, 20, 30, 40, 50].map((at) => Math.abs(told.get(at)!.error)));
  const most = WRONG_AT_FIRST[run.run] ?? 0.1;
  expect(wrong).toBeLessThan(most);
  // A bound that is not needed any more is to be taken away.
  expect(wrong).toBeGreaterThan(most > 0.1 ? 0.1 : 0);
});

test('where nothing else runs, it is right within a tenth from the tenth step on', () => {
  const all = toldOf(undisturbed);
  expect(all.length).toBeGreaterThan(4600);
  expect(all.filter(isWrong)).toEqual([]);
});

test('with a tilde it is wrong more than twice as often, and 1.6 times if any one of the runs had not been recorded', () => {
  const all = toldOf(disturbed);
  expect(discrimination(all)).toBeGreaterThan(2);
  expect(
    shareOf(
      all.filter((one) => !isWrong(one)),
      isRough,
    ),
  ).toBeLessThan(0.15);
  for (const { run } of disturbed) {
    const others = toldOf(disturbed.filter((one) => one.run !== run));
    expect(discrimination(others), `without ${run}`).toBeGreaterThan(1.6);
  }
  // A coin says nothing.
  const random = generator(1);
  expect(discrimination(all, () => random() < shareOf(all, isRough))).toBeLessThan(1.3);
});

test('the results have these numbers', () => {
  const results = readFileSync('bench/results/2026-11-27-cpu-zen4.md', 'utf8').replaceAll('\n', ' ');
  for (const run of recorded) expect(results, run.run).toContain(rowOf(run));
  expect(results).toContain(sentences());
});

/** The cells of a row: percent, with the tilde. */
function rowOf(run: Recorded): string {
  const told = replayed(run);
  const cells = [10, 20, 50, 100, 200].map((step) => {
    const { error, isRough } = told.get(step) ?? { error: 0, isRough: false };
    return counts(run, step) ? ` ${isRough ? '~' : ''}${(100 * error).toFixed(1)} |` : ' |';
  });
  return `|${cells.join('')}`;
}

function sentences(): string {
  const all = toldOf(disturbed);
  const [rough, others] = [all.filter(isRough), all.filter((one) => !one.isRough)];
  const [wrong, right] = [all.filter(isWrong), all.filter((one) => !isWrong(one))];
  const early = disturbed.filter((run) => !isWrong(replayed(run).get(10)!)).length;
  const percent = (share: number) => `${Math.round(100 * share)} %`;
  return [
    `At the tenth step ${early} of the ${disturbed.length} were right within a tenth.`,
    `From the tenth step to nine tenths of each run, ${percent(shareOf(all, isWrong))} of the estimates were wrong by`,
    `more than a tenth: ${percent(shareOf(rough, isWrong))} of those with a tilde, and`,
    `${percent(shareOf(others, isWrong))} of those without. ${percent(shareOf(right, isRough))} of the right ones had a`,
    `tilde without need, and ${percent(1 - shareOf(wrong, isRough))} of the wrong ones had none:`,
  ].join(' ');
}
