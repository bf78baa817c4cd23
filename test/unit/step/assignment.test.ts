import { expect, test } from 'vitest';
import { checkFewest } from '../../../src/step/assignment.js';

test('a run goes on without some of its workers where each of them holds the state', () => {
  checkFewest({ exchange: 'shared' }, 4, 4);
  checkFewest({ exchange: 'grpc' }, 4, 1);
  for (const exchange of ['auto', 'shared', 'nccl'] as const) {
    expect(() => checkFewest({ exchange }, 4, 3)).toThrow(`exchange: ${exchange} does not work`);
  }
});

test('more workers cannot be left than there are', () => {
  expect(() => checkFewest({ exchange: 'grpc' }, 4, 5)).toThrow('At least 5 workers cannot be left of 4');
});
