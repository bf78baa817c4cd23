import { describe, expect, test } from 'vitest';
import { mean } from '../../../src/averages.js';
import { centred, deviation, interval, quantile, resample } from '../../../src/study/statistics.js';
import { generator } from '../../support/random.js';

/** Intervals of the mean of values, from resamples. */
function bootstrapped(values: readonly number[], replicates: number) {
  const means = Array.from({ length: replicates }, (_, r) =>
    mean(resample(values.length, r, 0).map((i) => values[i]!)),
  );
  return { means, found: interval(means)! };
}

describe('bootstrap', () => {
  test('a resample is a function of its number, and takes every index equally often', () => {
    expect(resample(96, 5, 0)).toEqual(resample(96, 5, 0));
    expect(resample(96, 5, 0)).not.toEqual(resample(96, 6, 0));
    expect(resample(96, 5, 0)).not.toEqual(resample(96, 5, 1));
    const counts = new Array<number>(10).fill(0);
    for (let r = 0; r < 2000; r++) for (const i of resample(10, r, 0)) counts[i]!++;
    // 2000 on average; the deviation of a binomial with 20,000 draws of 1/10 is 42.
    for (const count of counts) expect(Math.abs(count - 2000)).toBeLessThan(5 * 42);
  });

  test('has the interval of a mean that is known: 1.645 standard errors to each side', () => {
    const count = 200;
    const values = Array.from({ length: count }, (_, i) => i);
    const { means, found } = bootstrapped(values, 4000);
    const population = Math.sqrt((count * count - 1) / 12);
    const error = population / Math.sqrt(count);
    expect(Math.abs(mean(means) - mean(values))).toBeLessThan(0.1 * error);
    expect(found.low).toBeCloseTo(mean(values) - 1.645 * error, 0);
    expect(found.high).toBeCloseTo(mean(values) + 1.645 * error, 0);
  });

  test('an interval holds the true share about as often as it says', () => {
    const random = generator(3);
    let held = 0;
    const rounds = 300;
    for (let round = 0; round < rounds; round++) {
      const hits = Array.from({ length: 96 }, () => Number(random() < 0.3));
      const { found } = bootstrapped(hits, 200);
      held += Number(found.low <= 0.3 && 0.3 <= found.high);
    }
    // 90 %, within four deviations of a binomial and what ties of shares add.
    expect(held / rounds).toBeGreaterThan(0.82);
    expect(held / rounds).toBeLessThan(0.97);
  });

  test('a single value and no values', () => {
    expect(bootstrapped([4], 10).found).toEqual({ low: 4, high: 4 });
    expect(interval([])).toBeNull();
  });
});

test('mean, deviation and quantiles', () => {
  expect(mean([1, 2, 6])).toBe(3);
  expect(deviation([1, 2, 6])).toBeCloseTo(Math.sqrt(7), 12);
  expect(deviation([5])).toBeNull();
  expect([0, 0.25, 0.5, 1].map((share) => quantile([4, 1, 3, 2, 5], share))).toEqual([1, 2, 3, 5]);
  expect(quantile([1, 2], 0.25)).toBe(1.25);
});

test('replicates are moved to the value, and keep their spread', () => {
  expect(centred([10, 12, 14], 5)).toEqual([3, 5, 7]);
});
