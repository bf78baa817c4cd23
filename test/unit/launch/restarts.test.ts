import { expect, test } from 'vitest';
import { Restarts } from '../../../src/launch/restarts.js';

test('each restart waits twice as long as the one before, up to half a minute', () => {
  const restarts = new Restarts(7);
  const delays = Array.from({ length: 7 }, () => restarts.next(0)!.delayMs / 1000);
  expect(delays).toEqual([1, 2, 4, 8, 16, 30, 30]);
});

test('a worker is started again so often in ten minutes', () => {
  const restarts = new Restarts(2);
  expect(restarts.next(0)?.count).toBe(1);
  expect(restarts.next(300_000)?.count).toBe(2);
  expect(restarts.next(599_999)).toBeNull();
  expect(restarts.next(600_000)).toEqual({ delayMs: 2_000, count: 2 });
  expect(restarts.next(600_001)).toBeNull();
});

test('0 restarts are none', () => {
  expect(new Restarts(0).next(0)).toBeNull();
});
