/**
 * The remaining time of runs whose durations were recorded, as the coordinator is told of them. They are in processor
 * time, of the only worker, or of the coordinator and both workers divided by two: the machine had a load of 3 to 25
 * (2026-11-27, two cores with AVX-512 BF16), of which the time of day would consist. The writing of a checkpoint is in
 * the steps beside it, as where no processor is idle. Other programs change the processor time, too, since caches and
 * memory are shared.
 */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { Pace } from '../../../src/coordinator/pace.js';

/** A step with its milliseconds and the share of its forward passes, or something else with its milliseconds. */
const event = z.union([
  z.tuple([z.number(), z.number()]),
  z.tuple([z.enum(['validation', 'checkpoint']), z.number()]),
]);

const recorded = z
  .array(
    z.strictObject({
      run: z.string(),
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

/** Runs whose later steps take more than a tenth longer, or less long, than those of the beginning. */
const CHANGING: ReadonlySet<string> = new Set([
  'configs/shapes-cpu.yaml, 2 workers, 600 steps',
  'configs/shapes-cpu.yaml, hidden 384, 2 workers, 64 rows held out',
  'configs/shapes-cpu.yaml, 2 threads, 64 rows held out',
  'test/integration/training.yaml, hidden 256, depth 4, 2 workers, no validation',
  'test/integration/training.yaml, 2 workers',
  'test/integration/training.yaml, 400 steps',
]);

/** By how much the remaining time that is told after each step is wrong, as a share of it. */
function replayed(run: Recorded): Map<number, { wrong: number; isRough: boolean }> {
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
    told.map((one) => {
      const wrong = Math.abs(one.seconds / (end - one.clock) - 1);
      return [one.step, { wrong, isRough: one.isRough }];
    }),
  );
}

test.each(recorded.filter(({ run }) => !CHANGING.has(run)))(
  'is right from the tenth step on: $run',
  (run) => {
    const told = replayed(run);
    for (const at of [10, 15, 20, 30, 40, 50]) expect(told.get(at)!.wrong, `step ${at}`).toBeLessThan(0.1);
  },
);

test('where the pace changes, it says in most cases that it may be wrong', () => {
  const all = recorded.flatMap((run) =>
    [...replayed(run)].filter(([step]) => step >= 10 && step <= 0.9 * run.steps).map(([, told]) => told),
  );
  const [wrong, right] = [all.filter((one) => one.wrong > 0.1), all.filter((one) => one.wrong <= 0.1)];
  expect(right.length).toBeGreaterThan(4 * wrong.length);
  expect(wrong.filter(({ isRough }) => !isRough).length).toBeLessThan(0.6 * wrong.length);
  expect(right.filter(({ isRough }) => isRough).length).toBeLessThan(0.5 * right.length);
});
