/**
 * The remaining time of runs whose durations were recorded, as the coordinator is told of them. They are in processor
 * time of the only worker: the machine had a load of 5 to 25 (2026-11-27, two cores with AVX-512 BF16), of which the
 * time of day would consist. The writing of a checkpoint is in the steps beside it, as where no processor is idle.
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

test.each(recorded)('is right from the tenth step on: $run', (run) => {
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
  const told = new Map<number, { clock: number; seconds: number }>();
  for (const [what, value] of run.events) {
    if (what === 'checkpoint') pace.saved(value / 1000);
    else {
      const seconds = (what === 'validation' ? value : what) / 1000;
      clock += seconds;
      if (what === 'validation') pace.validated(seconds);
      else pace.add(++step, seconds, value);
    }
    const remaining = pace.remaining(step);
    if (typeof what === 'number' && remaining !== null) told.set(step, { clock, ...remaining });
  }
  expect(step).toBe(run.steps);
  const end = clock + run.after_last_step_ms / 1000;
  const wrongAt = (at: number) => {
    const { clock: now, seconds } = told.get(at)!;
    return Math.abs(seconds / (end - now) - 1);
  };
  expect(wrongAt(10)).toBeLessThan(0.07);
  for (const at of [15, 20, 30, 40, 50]) expect(wrongAt(at), `step ${at}`).toBeLessThan(0.1);
});
