import { expect, test } from 'vitest';
import { forwardShare } from '../../../src/coordinator/combine.js';
import { prepared } from '../../support/rule-script.js';

/** What a worker says of a step, with these numbers. */
const worker = (numbers: Record<string, number>) => ({ ...prepared(1, [0]), numbers });

test('the share of a step that is forward passes, by the worker that computed longest', () => {
  const slow = worker({ forward_seconds: 0.03, compute_seconds: 0.09, accumulate_seconds: 0.1 });
  const fast = worker({ forward_seconds: 0.02, compute_seconds: 0.06, accumulate_seconds: 0.07 });
  expect(forwardShare([slow, fast], 0.125)).toBeCloseTo((1 / 3) * 0.8, 12);
  // With two threads, compute is their sum, but the step is as long as the slower one.
  const threads = worker({ forward_seconds: 0.06, compute_seconds: 0.18, accumulate_seconds: 0.1 });
  expect(forwardShare([threads], 0.125)).toBeCloseTo((1 / 3) * 0.8, 12);
  // A GPU does not time them apart.
  const gpu = worker({ forward_seconds: 0, compute_seconds: 0.06, accumulate_seconds: 0.06 });
  expect(forwardShare([gpu], 0.1)).toBeNull();
});
