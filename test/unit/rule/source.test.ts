import { expect, test } from 'vitest';
import { sharedSource, sourceOf } from '../../../src/rule/source.js';

const BEGINNING = { step: 0, path: '' };
const CHECKPOINT = { step: 4, path: 'step-4' };

test('the newest state in memory is kept by those who hold it, and taken from all of them', () => {
  const holders = { holders: { step: 6, ranks: [1, 3] } };
  expect(sourceOf([5, 6, null, 6], Array(4).fill(true), 6, CHECKPOINT)).toEqual({
    step: 6,
    syncs: [holders, { keep: {} }, holders, { keep: {} }],
  });
});

test('where nobody holds a state: the checkpoint, or the beginning', () => {
  const loaded = { checkpoint: 'step-4' };
  expect(sourceOf([null, null], [true, true], 6, CHECKPOINT)).toEqual({ step: 4, syncs: [loaded, loaded] });
  expect(sourceOf([null], [true], 0, BEGINNING)).toEqual({ step: 0, syncs: [{ initialise: {} }] });
});

test('a state that was never committed, or is older than the checkpoint, does not count', () => {
  expect(sourceOf([7, 6], [true, true], 6, CHECKPOINT)).toMatchObject({
    step: 6,
    syncs: [{ holders: {} }, { keep: {} }],
  });
  expect(sourceOf([7, 3], [true, true], 6, CHECKPOINT)).toMatchObject({
    step: 4,
    syncs: Array(2).fill({ checkpoint: 'step-4' }),
  });
});

test('who does not see the run folder gets the checkpoint from all that do, and begins by itself', () => {
  const see = [true, false, true];
  const nobody = [null, null, null];
  const [read, received] = [{ checkpoint: 'step-4' }, { holders: { step: 4, ranks: [0, 2] } }];
  expect(sourceOf(nobody, see, 6, CHECKPOINT)).toEqual({ step: 4, syncs: [read, received, read] });
  expect(sourceOf(nobody, see, 0, BEGINNING)).toEqual({ step: 0, syncs: Array(3).fill({ initialise: {} }) });
});

test('where nobody sees the run folder, rank 0 gets the checkpoint from the coordinator, and the others from it', () => {
  const blind = [false, false, false];
  const holders = { holders: { step: 4, ranks: [0] } };
  expect(sourceOf([null, null, null], blind, 6, CHECKPOINT)).toEqual({
    step: 4,
    syncs: [{ served: { step: 4 } }, holders, holders],
  });
  expect(sourceOf([null, null, null], blind, 0, BEGINNING).syncs).toEqual(Array(3).fill({ initialise: {} }));
  expect(sourceOf([6, null, null], blind, 6, CHECKPOINT).syncs[0]).toEqual({ keep: {} });
});

test('a state that is shared is loaded once: from the checkpoint, or by the coordinator where rank 0 does not see it', () => {
  const [loaded, served] = [{ checkpoint: 'step-4' }, { served: { step: 4 } }];
  expect(sharedSource([true, false], CHECKPOINT)).toEqual([loaded, served]);
  expect(sharedSource([false, false], CHECKPOINT)).toEqual([served, served]);
  expect(sharedSource([false], BEGINNING)).toEqual([{ initialise: {} }]);
});
