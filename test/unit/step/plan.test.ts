import { describe, expect, test } from 'vitest';
import { Permutation } from '../../../src/step/permutation.js';
import { planVersionOf, SamplePlan } from '../../../src/step/plan.js';

const HASH = `${'c0ffee'.repeat(10)}abcd`;
const OTHER_HASH = `1${HASH.slice(1)}`;

describe('Permutation', () => {
  test.each([1, 2, 3, 4, 5, 16, 17, 100, 1000, 4096, 4097])(
    'is one to one on %i numbers, and inverts',
    (size) => {
      const permutation = new Permutation(size, 99n, 3, 1, 7);
      const image = Array.from({ length: size }, (_, i) => permutation.apply(i));
      expect(new Set(image).size).toBe(size);
      expect(Math.max(...image)).toBe(size - 1);
      expect(image.map((x) => permutation.invert(x))).toEqual(Array.from({ length: size }, (_, i) => i));
    },
  );

  test('is another one for each part of its name', () => {
    const image = (p: Permutation) => Array.from({ length: 50 }, (_, i) => p.apply(i)).join();
    const images = [
      new Permutation(50, 1n, 0, 0, 0),
      new Permutation(50, 2n, 0, 0, 0),
      new Permutation(50, 1n << 32n, 0, 0, 0),
      new Permutation(50, 1n, 1, 0, 0),
      new Permutation(50, 1n, 0, 1, 0),
      new Permutation(50, 1n, 0, 0, 1),
    ].map(image);
    expect(new Set(images).size).toBe(images.length);
  });

  test('sends every number everywhere', () => {
    // 2000 permutations of 8: how often i goes to j, against 250 each; chi-square, 49 degrees of freedom, p =
    // 1e-4.
    const counts = new Float64Array(64);
    for (let key = 0; key < 2000; key++) {
      const p = new Permutation(8, BigInt(key), 0, 0, 0);
      for (let i = 0; i < 8; i++) counts[i * 8 + p.apply(i)]! += 1;
    }
    const chiSquare = counts.reduce((sum, n) => sum + (n - 250) ** 2 / 250, 0);
    expect(chiSquare).toBeLessThan(95);
  });
});

/** The rows of a step's batch. */
const rowsOf = (plan: SamplePlan, step: number, batch: number) => plan.samples(step, batch, 0, batch).rows;

/** Rows of the first `count` positions, drawn in batches of `batch`. */
function sequence(plan: SamplePlan, batch: number, steps: number): number[] {
  return Array.from({ length: steps }, (_, i) => [...rowsOf(plan, i + 1, batch)]).flat();
}

describe('SamplePlan', () => {
  test.each([
    [48, 0, 16],
    [100, 20, 8],
    [1000, 100, 30],
    [9000, 500, 850],
    [4096 + 256, 256, 4096],
  ])('shows each of %i rows but %i held-out ones once an epoch, in batches of %i', (rows, held, batch) => {
    const plan = new SamplePlan(HASH, rows, held, 5);
    const training = rows - held;
    const all = sequence(plan, batch, Math.ceil((2 * training) / batch));
    const first = all.slice(0, training);
    const second = all.slice(training, 2 * training);
    const expected = Array.from({ length: rows }, (_, i) => i).filter((i) => !plan.validation.includes(i));
    expect(plan.validation.length).toBe(held);
    expect([...first].sort((a, b) => a - b)).toEqual(expected);
    expect([...second].sort((a, b) => a - b)).toEqual(expected);
    expect(second).not.toEqual(first);
  });

  test('does not depend on how a step is cut into slots, nor on what was asked before', () => {
    const plan = new SamplePlan(HASH, 5000, 300, 1);
    const whole = plan.samples(40, 96, 0, 96);
    const fresh = new SamplePlan(HASH, 5000, 300, 1);
    for (const slot of [2, 0, 1]) {
      const part = fresh.samples(40, 96, slot * 32, 32);
      expect(part.rows).toEqual(whole.rows.slice(slot * 32, slot * 32 + 32));
      expect(part.sampleIds).toEqual(whole.sampleIds.slice(slot * 32, slot * 32 + 32));
      rowsOf(fresh, 1, 96);
      rowsOf(fresh, 49 * slot + 1, 96);
    }
  });

  test('depends on the seed and on the data set', () => {
    const ids = (hash: string, seed: number) => [...rowsOf(new SamplePlan(hash, 1000, 10, seed), 1, 64)];
    expect(ids(HASH, 0)).toEqual(ids(HASH, 0));
    expect(ids(HASH, 0)).not.toEqual(ids(HASH, 1));
    expect(ids(HASH, 0)).not.toEqual(ids(OTHER_HASH, 0));
  });

  test('is fixed: these rows belong to plan versions 1 and 2', () => {
    expect([...rowsOf(new SamplePlan(HASH, 1000, 100, 42), 1, 8)]).toEqual([
      832, 160, 714, 166, 211, 790, 120, 984,
    ]);
    expect([...new SamplePlan(HASH, 1000, 4, 42).validation]).toEqual([69, 172, 624, 811]);
  });

  test('holds the same rows out whatever the seed', () => {
    const held = (seed: number) => new SamplePlan(HASH, 1000, 64, seed).validation;
    expect(held(1)).toEqual(held(2));
    expect(new Set(held(1)).size).toBe(64);
  });

  test('gives a row that is drawn twice in a step another sample id', () => {
    const plan = new SamplePlan(HASH, 10, 0, 0);
    let twice = 0;
    for (let step = 1; step <= 50; step++) {
      const { rows, sampleIds } = plan.samples(step, 8, 0, 8);
      expect(new Set(sampleIds).size).toBe(8);
      if (new Set(rows).size < 8) twice += 1;
    }
    expect(twice).toBeGreaterThan(0);
  });

  test('mixes rows, and yet reads in runs', () => {
    const plan = new SamplePlan(HASH, 1_000_000, 1000, 0);
    const window = sequence(plan, 4096, 1);
    const blocks = new Set(window.map((row) => Math.floor(row / 64)));
    // 64 blocks, each straddling a boundary of rows where held-out ones shift them.
    expect(blocks.size).toBeLessThanOrEqual(2 * 64);
    for (let first = 0; first < 4096; first += 64) {
      const batch = window.slice(first, first + 64).map((row) => Math.floor(row / 64));
      expect(new Set(batch).size).toBeGreaterThan(25);
    }
  });

  test('costs no more for a huge data set', () => {
    const rows = 2 ** 40;
    const plan = new SamplePlan(HASH, rows, 10_000, 3);
    const ids = rowsOf(plan, 1_000_000_000, 1024);
    expect(new Set(ids).size).toBe(1024);
    for (const id of ids) expect(id >= 0 && id < rows && !plan.validation.includes(id)).toBe(true);
  });

  test('refuses too few rows', () => {
    expect(() => new SamplePlan(HASH, 48, 48, 0)).toThrow(
      expect.objectContaining({
        code: 'ERR_DATA_EMPTY',
        message: expect.stringContaining('Left to train on: none'),
      }),
    );
    const plan = new SamplePlan(HASH, 48, 10, 0);
    plan.checkBatch(38);
    const tooFew = expect.objectContaining({
      code: 'ERR_DATA_EMPTY',
      message: expect.stringContaining('Left to train on: 38, fewer than one batch (batch.global is 39)'),
    });
    expect(() => plan.checkBatch(39)).toThrow(tooFew);
    expect(() => rowsOf(plan, 1, 39)).toThrow(tooFew);
    expect(() => rowsOf(plan, 0, 8)).toThrow(RangeError);
  });

  test('keeps the version that a run began with', () => {
    expect(planVersionOf(undefined)).toBe(2);
    for (const version of [1, 2]) {
      const { version: kept, ...rest } = new SamplePlan(HASH, 1000, 100, 7, version).state(25, 64);
      expect(planVersionOf({ planState: { version: kept, ...rest } })).toBe(version);
    }
    const first = new SamplePlan(HASH, 1000, 100, 7, 1);
    first.check(first.state(25, 64), 25, 64);
  });

  test('goes on only from a state of its own', () => {
    const plan = new SamplePlan(HASH, 1000, 100, 7);
    const state = JSON.parse(JSON.stringify(plan.state(25, 64)));
    expect(state).toEqual({
      version: 2,
      datasetHash: HASH,
      seed: 7,
      rows: 1000,
      validationRows: 100,
      samples: 1600,
    });
    plan.check(state, 25, 64);
    for (const change of [
      { version: 1 },
      { datasetHash: OTHER_HASH },
      { seed: 8 },
      { rows: 999 },
      { validationRows: 0 },
      { samples: 1599 },
    ]) {
      expect(() => plan.check({ ...state, ...change }, 25, 64)).toThrow(
        expect.objectContaining({ code: 'ERR_PLAN' }),
      );
    }
    expect(() => plan.check(state, 25, 32)).toThrow(/batch\.global 64, this run has 32/);
  });
});
