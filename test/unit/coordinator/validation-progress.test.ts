import { expect, test } from 'vitest';
import { ValidationProgress } from '../../../src/coordinator/validation-progress.js';

test('counts the slots of all workers, never backwards, and only while a validation is in progress', () => {
  const progress = new ValidationProgress();
  expect(progress.heard('a', 3, 10)).toBeNull();
  progress.committed(true);
  expect(progress.heard('a', 0, 10)).toBeNull();
  expect(progress.heard('a', 3, 10)).toEqual({ done: 3, total: 10 });
  expect(progress.heard('a', 3, 10)).toBeNull();
  expect(progress.heard('b', 2, 10)).toEqual({ done: 5, total: 10 });
  // The first is done, and has begun the next step.
  expect(progress.heard('a', 5, 10)).toEqual({ done: 7, total: 10 });
  expect(progress.heard('a', 0, 10)).toBeNull();
  expect(progress.heard('b', 4, 10)).toEqual({ done: 9, total: 10 });
  // One that is left out was counted; another computes its slots.
  expect(progress.heard('c', 5, 10)).toEqual({ done: 10, total: 10 });
  progress.over();
  expect(progress.heard('b', 5, 10)).toBeNull();
  progress.committed(false);
  expect(progress.heard('b', 5, 10)).toBeNull();
});
