import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../../src/config/load.js';
import { averageAt, averageWarning, describeAverage, emaDecay } from '../../../src/step/ema.js';

const config = (more: string) => parseConfig(`{name: x, data: {path: d}, ${more}}`, 'the test');

test('the average moves every so many steps', () => {
  const sometimes = config('ema: {decay: 0.99, every: 3, warmup: false}');
  expect([1, 2, 3, 4, 5, 6].map((step) => emaDecay(sometimes, step))).toEqual([1, 1, 0.99, 1, 1, 0.99]);
  expect(emaDecay(config('ema: null'), 3)).toBe(1);
});

test('with warm-up, which is the default, update n keeps (1 + n) / (10 + n), and at most the decay', () => {
  const warm = config('ema: {decay: 0.5, every: 2}');
  const decays = [2, 4, 6, 8, 14, 16, 18].map((step) => emaDecay(warm, step));
  expect(decays).toEqual([2 / 11, 3 / 12, 4 / 13, 5 / 14, 8 / 17, 0.5, 0.5]);
  expect(emaDecay(warm, 3)).toBe(1);
});

describe('what an average holds', () => {
  /** Follows the weights of each step through the average: weights[i] is the share of those of step i. */
  function followed(ema: string, steps: number) {
    const run = config(ema);
    let shares = [1];
    for (let step = 1; step <= steps; step++) {
      const decay = emaDecay(run, step);
      shares = [...shares.map((share) => share * decay), 1 - decay];
    }
    const meanAge = shares.reduce((sum, share, i) => sum + share * (steps - i), 0);
    return { run: run.ema!, startShare: shares[0]!, meanAge };
  }

  test.each([
    ['ema: {decay: 0.999, warmup: false}', 300],
    ['ema: {decay: 0.999}', 1],
    ['ema: {decay: 0.999}', 34],
    ['ema: {decay: 0.9}', 200],
    ['ema: {decay: 0.99, every: 7}', 1000],
    ['ema: {decay: 0.99, every: 7, warmup: false}', 6],
    ['ema: {decay: 0.1}', 5],
    ['ema: {decay: 0}', 5],
    ['ema: {decay: 0.5}', 8],
  ])('%s after %i steps', (ema, steps) => {
    const { run, startShare, meanAge } = followed(ema, steps);
    const found = averageAt(run, steps);
    expect(Math.abs(found.startShare - startShare)).toBeLessThanOrEqual(1e-9 * startShare);
    expect(found.meanAge).toBeCloseTo(meanAge, 8);
  });

  test('is known at once for any number of steps', () => {
    const { ema } = config('ema: {decay: 0.9999999}');
    const { startShare, meanAge } = averageAt(ema!, Number.MAX_SAFE_INTEGER);
    expect(startShare).toBe(0);
    expect(meanAge / 1e7).toBeCloseTo(1, 5);
  });
});

test('descriptions say step, settings, age and what is left of the start', () => {
  const of = (ema: string, step: number) => describeAverage(config(`ema: ${ema}`).ema!, step);
  expect(of('{}', 34)).toBe(
    'EMA of step 34 (decay 0.999 with warm-up): mean age about 3.5 steps; less than 0.1 % of it are the starting weights',
  );
  expect(of('{warmup: false}', 34)).toBe(
    'EMA of step 34 (decay 0.999): mean age about 33 steps; 97 % of it are the starting weights',
  );
  expect(of('{decay: 0.99, every: 100}', 20)).toBe(
    'EMA of step 20 (decay 0.99 every 100 steps with warm-up): no update yet, so it is the starting weights',
  );
});

test('a run whose average would hold much of the start is warned of, with what to do', () => {
  const of = (more: string) => averageWarning(config(more));
  expect(of('schedule: {steps: 1000}')).toBeNull();
  expect(of('ema: null')).toBeNull();
  expect(of('ema: {warmup: false}')).toBe(
    'after the last step (1000), 37 % of the EMA will be the starting weights: lower ema.decay, or set ema.warmup: true, or raise schedule.steps',
  );
  expect(of('schedule: {steps: 1, warmup: 0}')).toBe(
    'after the last step (1), 18 % of the EMA will be the starting weights: lower ema.decay, or raise schedule.steps',
  );
  expect(of('ema: {every: 100}, schedule: {steps: 99}')).toBe(
    'ema.every (100) is more than schedule.steps (99): the EMA will be the starting weights, bit for bit',
  );
});
