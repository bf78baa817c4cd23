import { expect, test } from 'vitest';
import { parseConfig } from '../../../src/config/load.js';
import { learningRate } from '../../../src/step/learning-rate.js';

const config = (more: string) =>
  parseConfig(`{name: x, data: {path: d}, optimizer: {lr: 2.0}, ${more}}`, 'the test');

test('warm-up is linear to the peak, a cosine falls to its fraction', () => {
  const cosine = config('schedule: {steps: 104, warmup: 4, decay: cosine, final: 0.1}');
  expect([1, 2, 3, 4].map((step) => learningRate(cosine, step))).toEqual([0.5, 1, 1.5, 2]);
  expect(learningRate(cosine, 54)).toBeCloseTo(2 * 0.55, 12);
  expect(learningRate(cosine, 104)).toBeCloseTo(0.2, 12);
  for (let step = 5; step <= 104; step++) {
    expect(learningRate(cosine, step)).toBeLessThan(learningRate(cosine, step - 1));
  }
});

test('a constant rate stays; no warm-up starts at the peak', () => {
  const constant = config('schedule: {steps: 10, warmup: 0, decay: constant}');
  expect([1, 5, 10].map((step) => learningRate(constant, step))).toEqual([2, 2, 2]);
  expect(learningRate(config('schedule: {steps: 4, warmup: 4}'), 4)).toBe(2);
});
