import { expect, test } from 'vitest';
import { judgePrepared } from '../../../src/coordinator/judge.js';
import type { Prepared } from '../../../src/rpc/proto.js';

test('of many rows and slots that are not finite a few are named, with what to do', () => {
  const slots = Array.from({ length: 6 }, (_, slot) => ({
    slot,
    losses: Array.from({ length: 64 }, () => Number.NaN),
    samples: Array.from({ length: 64 }, (_, i) => 100 * slot + i),
    skipped: [],
    times: [],
  }));
  const answer: Prepared = {
    step: 7,
    slots,
    gradientNorm: Number.NaN,
    nonFinite: slots.map(({ slot }) => ({ slot, tensor: 'x_embedder' })),
    attention: [],
    gradientNorms: {},
    numbers: {},
  };
  const fault = judgePrepared([{ name: 'rank 0', answer }], 6);
  expect(fault).toMatchObject({
    code: 'ERR_NON_FINITE',
    message: `Step 7 was refused: NaN or infinity in the gradient of ${[
      'rank 0, slot 0, rows 0, 1, 2, and 61 more, first in x_embedder',
      'rank 0, slot 1, rows 100, 101, 102, and 61 more, first in x_embedder',
      'rank 0, slot 2, rows 200, 201, 202, and 61 more, first in x_embedder',
      'and 3 more',
    ].join('; ')}`,
    hint: expect.stringMatching(/dataset verify.*optimizer\.lr.*qk_norm/),
  });
});
