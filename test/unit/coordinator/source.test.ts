import { expect, test } from 'vitest';
import { sourceOf } from '../../../src/coordinator/source.js';

const BEGINNING = { step: 0, path: '' };
const CHECKPOINT = { step: 4, path: 'step-4' };

test('the newest state in memory is kept by those who hold it, and taken from all of them', () => {
  const holders = { holders: { step: 6, ranks: [1, 3] } };
  expect(sourceOf([5, 6, null, 6], 6, CHECKPOINT)).toEqual({
    step: 6,
    syncs: [holders, { keep: {} }, holders, { keep: {} }],
  });
});

test('where nobody holds a state: the checkpoint, or the beginning', () => {
  const loaded = { checkpoint: 'step-4' };
  expect(sourceOf([null, null], 6, CHECKPOINT)).toEqual({ step: 4, syncs: [loaded, loaded] });
  expect(sourceOf([null], 0, BEGINNING)).toEqual({ step: 0, syncs: [{ initialise: {} }] });
});

test('a state that was never committed, or is older than the checkpoint, does not count', () => {
  expect(sourceOf([7, 6], 6, CHECKPOINT)).toMatchObject({ step: 6, syncs: [{ holders: {} }, { keep: {} }] });
  expect(sourceOf([7, 3], 6, CHECKPOINT)).toMatchObject({
    step: 4,
    syncs: Array(2).fill({ checkpoint: 'step-4' }),
  });
});
