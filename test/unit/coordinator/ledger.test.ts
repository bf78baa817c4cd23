import { expect, test } from 'vitest';
import { Ledger } from '../../../src/coordinator/ledger.js';
import type { Prepared } from '../../../src/rpc/proto.js';

/** What a step gave: two slots, computed by one worker or by two. */
function prepared(loss: number, workers: 1 | 2 = 1): Prepared[] {
  const slots = [
    { slot: 0, samples: [3, 1], losses: [0.5, loss] },
    { slot: 1, samples: [2, 0], losses: [0.25, 0.75] },
  ];
  const parts = workers === 1 ? [slots] : [slots.slice(1), slots.slice(0, 1)];
  return parts.map((of) => ({ gradientNorm: 1.5, slots: of }) as unknown as Prepared);
}

test('a step that is run again is compared, until a checkpoint makes it sure', () => {
  const ledger = new Ledger(100);
  for (let step = 101; step <= 110; step++) expect(ledger.enter(step, prepared(step))).toBe('new');
  expect(ledger.committed).toBe(110);
  ledger.settle(104);
  ledger.settle(103);
  for (let step = 105; step <= 110; step++) expect(ledger.enter(step, prepared(step, 2))).toBe('again');
  expect(ledger.enter(111, prepared(111))).toBe('new');
  expect(ledger.enter(108, prepared(107))).toMatchObject({
    code: 'ERR_STATE_MISMATCH',
    message: expect.stringContaining('Step 108 was run again'),
  });
  // Nothing is kept of steps that are not run again.
  ledger.settle(111);
  expect(ledger.enter(111, prepared(111))).toMatchObject({ code: 'ERR_STATE_MISMATCH' });
  expect(ledger.enter(112, prepared(112))).toBe('new');
  expect(ledger.enter(112, prepared(112))).toBe('again');
});
