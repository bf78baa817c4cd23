import { expect, test } from 'vitest';
import { Ledger } from '../../../src/rule/ledger.js';
import { prepared } from '../../support/rule-script.js';

const enter = (ledger: Ledger, step: number, loss = step) => ledger.enter(step, [prepared(step, [loss])]);

test('steps are committed once and compared when they are run again, also in a long run without checkpoints', () => {
  const ledger = new Ledger(7);
  for (let step = 8; step <= 3_000; step++) expect(enter(ledger, step)).toMatchObject({ isNew: true });
  for (const step of [8, 1_031, 1_032, 2_999, 3_000]) {
    expect(enter(ledger, step)).toMatchObject({ isNew: false });
    expect(enter(ledger, step, step + 1)).toMatchObject({ fault: { code: 'ERR_STATE_MISMATCH' } });
  }
  expect(ledger.committed).toBe(3_000);
});

test('steps before the last checkpoint are forgotten, and those after it are not', () => {
  const ledger = new Ledger(0);
  for (let step = 1; step <= 20; step++) enter(ledger, step);
  ledger.settle(15);
  ledger.settle(10);
  for (let step = 21; step <= 2_000; step++) expect(enter(ledger, step)).toMatchObject({ isNew: true });
  for (const step of [16, 20, 21, 2_000]) expect(enter(ledger, step)).toMatchObject({ isNew: false });
  expect(enter(ledger, 17, 18)).toMatchObject({ fault: { code: 'ERR_STATE_MISMATCH' } });
});
