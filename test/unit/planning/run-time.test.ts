import { describe, expect, test } from 'vitest';
import { loadConfig } from '../../../src/config/load.js';
import type { Config } from '../../../src/config/schema.js';
import { native } from '../../../src/native/load.js';
import { estimate } from '../../../src/planning/estimate.js';
import { busyness, forecastRunTime, runSeconds } from '../../../src/planning/run-time.js';
import { TRAINING } from '../../support/launched.js';

const RATES = { flops: 1e11, bandwidth: 1e10 };
const load = (...sets: string[]) => loadConfig(TRAINING, sets, {});

async function secondsOf(config: Config, done = 0, workers = 1) {
  return runSeconds(native(), config, await estimate(native(), config, workers, null), RATES, done);
}

describe('the time of a run', () => {
  test('is that of its steps and validations', async () => {
    // 24 steps; validations after 8, 16 and 24.
    const { step, validation, run } = await secondsOf(load());
    expect(step).toBeGreaterThan(0);
    expect(run).toBeCloseTo(24 * step + 3 * validation!, 9);
    // For a resumed run: what remains.
    expect((await secondsOf(load(), 16)).run).toBeCloseTo(8 * step + validation!, 9);
    expect((await secondsOf(load(), 15)).run).toBeCloseTo(9 * step + 2 * validation!, 9);
    expect((await secondsOf(load(), 24)).run).toBe(0);
  });

  test('the last step is validated, also between two validations', async () => {
    const { step, validation, run } = await secondsOf(load('validation.every=7'));
    expect(run).toBeCloseTo(24 * step + 4 * validation!, 9);
    const without = await secondsOf(load('validation.every=0'));
    expect(without).toMatchObject({ validation: null, run: 24 * step });
  });

  test('a validation is forward passes of padded slots, for each kind of weights', async () => {
    const { validation } = await secondsOf(load());
    // 3 bins and 8 log-SNRs of 8 rows in slots of 4 are 22 slots, of 6 rows too.
    expect((await secondsOf(load('data.validation_rows=6'))).validation).toBeCloseTo(validation!, 9);
    expect((await secondsOf(load('validation.weights=[ema]'))).validation).toBeCloseTo(validation! / 2, 9);
    expect((await secondsOf(load('validation.bins=14'))).validation).toBeCloseTo(2 * validation!, 9);
  });

  test('a step computes all micro-batches of its slots', async () => {
    const { step, validation } = await secondsOf(load());
    // One slot of five micro-batches instead of five slots.
    const one = await secondsOf(load('batch.accumulate=5'));
    expect(one.step).toBeCloseTo(step, 9);
    expect(one.validation).toBe(validation);
  });

  test('workers share slots', async () => {
    const { step } = await secondsOf(load());
    // 5 slots: the worker with the most has 3.
    expect((await secondsOf(load(), 0, 2)).step).toBeCloseTo((3 / 5) * step, 9);
  });

  test('is longer among other processes, which share the processors', () => {
    expect(busyness(2, 8, 2)).toEqual({ load: 8, processors: 2, factor: 5 });
    // The run itself may use all processors, and half of a machine may be busy.
    expect(busyness(8, 0.5, 8)).toBeNull();
    expect(busyness(4, 4, 8)).toBeNull();
    expect(busyness(8, 4, 8)).toMatchObject({ factor: 1.5 });
  });

  test('is measured on this machine', async () => {
    const config = load();
    const figures = await estimate(native(), config, 2, null);
    const { peak, step, run } = await forecastRunTime(native(), config, figures, 0);
    expect(peak).toBeGreaterThan(1e8);
    expect(run).toBeGreaterThan(24 * step);
  });
});
