import { expect, test } from 'vitest';
import type { Prepared } from '../../../src/rpc/proto.js';
import type { Place } from '../../../src/rule/events.js';
import { judgePrepared, oddOnes } from '../../../src/rule/judge.js';

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

test('of three or more, those are odd whose value is not that of most', () => {
  const places = ['a', 'b', 'c', 'd'].map((id, rank) => ({ id, rank }) as Place);
  const odd = (...values: number[]) => oddOnes(places.slice(0, values.length), values).map(({ id }) => id);
  expect(odd(1, 1, 1)).toEqual([]);
  expect(odd(1, 2, 1)).toEqual(['b']);
  expect(odd(1, Number.NaN, 1, 1)).toEqual(['b']);
  expect(odd(1, 2)).toEqual([]);
  expect(odd(1, 2, 3)).toEqual([]);
  expect(odd(1, 1, 2, 2)).toEqual([]);
  // A gradient that is not finite is not that of one worker.
  expect(odd(Number.NaN, Number.NaN, Number.NaN)).toEqual([]);
});
