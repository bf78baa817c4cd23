import { expect, test } from 'vitest';
import { mean, medianHigh, medianLow } from '../../src/averages.js';

test('a mean is summed in the order of the values', () => {
  expect(mean([1, 2, 6])).toBe(3);
  expect(mean([0.1, 0.2, 0.3])).toBe((0.1 + 0.2 + 0.3) / 3);
  expect(mean([])).toBeNaN();
});

test('a median is one of the values: of two in the middle, the name says which', () => {
  for (const median of [medianLow, medianHigh]) {
    expect(median([7])).toBe(7);
    // By size, not by their texts.
    expect(median([10, 9, 100])).toBe(10);
  }
  const values = [4, 1, 3, 2];
  expect([medianLow(values), medianHigh(values)]).toEqual([2, 3]);
  expect(values).toEqual([4, 1, 3, 2]);
});
