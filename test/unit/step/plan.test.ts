import { describe, expect, test } from 'vitest';
import { Permutation } from '../../../src/step/permutation.js';
import { comparableFrom, firstSegment, planStateOf, SamplePlan, segmentsOf } from '../../../src/step/plan.js';
import type { Segment } from '../../../src/step/segment.js';
import { generator } from '../../support/random.js';

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
    const plan = new SamplePlan([firstSegment(HASH, rows, held, 5)]);
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
    const plan = new SamplePlan([firstSegment(HASH, 5000, 300, 1)]);
    const whole = plan.samples(40, 96, 0, 96);
    const fresh = new SamplePlan([firstSegment(HASH, 5000, 300, 1)]);
    for (const slot of [2, 0, 1]) {
      const part = fresh.samples(40, 96, slot * 32, 32);
      expect(part.rows).toEqual(whole.rows.slice(slot * 32, slot * 32 + 32));
      expect(part.sampleIds).toEqual(whole.sampleIds.slice(slot * 32, slot * 32 + 32));
      rowsOf(fresh, 1, 96);
      rowsOf(fresh, 49 * slot + 1, 96);
    }
  });

  test('depends on the seed and on the data set', () => {
    const ids = (hash: string, seed: number) => [
      ...rowsOf(new SamplePlan([firstSegment(hash, 1000, 10, seed)]), 1, 64),
    ];
    expect(ids(HASH, 0)).toEqual(ids(HASH, 0));
    expect(ids(HASH, 0)).not.toEqual(ids(HASH, 1));
    expect(ids(HASH, 0)).not.toEqual(ids(OTHER_HASH, 0));
  });

  test('is fixed: these rows belong to plan versions 1 and 2', () => {
    expect([...rowsOf(new SamplePlan([firstSegment(HASH, 1000, 100, 42)]), 1, 8)]).toEqual([
      832, 160, 714, 166, 211, 790, 120, 984,
    ]);
    expect([...new SamplePlan([firstSegment(HASH, 1000, 4, 42)]).validation]).toEqual([69, 172, 624, 811]);
  });

  test('holds the same rows out whatever the seed', () => {
    const held = (seed: number) => new SamplePlan([firstSegment(HASH, 1000, 64, seed)]).validation;
    expect(held(1)).toEqual(held(2));
    expect(new Set(held(1)).size).toBe(64);
  });

  test('gives a row that is drawn twice in a step another sample id', () => {
    const plan = new SamplePlan([firstSegment(HASH, 10, 0, 0)]);
    let twice = 0;
    for (let step = 1; step <= 50; step++) {
      const { rows, sampleIds } = plan.samples(step, 8, 0, 8);
      expect(new Set(sampleIds).size).toBe(8);
      if (new Set(rows).size < 8) twice += 1;
    }
    expect(twice).toBeGreaterThan(0);
  });

  test('mixes rows, and yet reads in runs', () => {
    const plan = new SamplePlan([firstSegment(HASH, 1_000_000, 1000, 0)]);
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
    const plan = new SamplePlan([firstSegment(HASH, rows, 10_000, 3)]);
    const ids = rowsOf(plan, 1_000_000_000, 1024);
    expect(new Set(ids).size).toBe(1024);
    for (const id of ids) expect(id >= 0 && id < rows && !plan.validation.includes(id)).toBe(true);
  });

  test('refuses too few rows', () => {
    expect(() => new SamplePlan([firstSegment(HASH, 48, 48, 0)])).toThrow(
      expect.objectContaining({
        code: 'ERR_DATA_EMPTY',
        message: expect.stringContaining('Left to train on: none'),
      }),
    );
    const plan = new SamplePlan([firstSegment(HASH, 48, 10, 0)]);
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
    for (const version of [1, 2] as const) {
      const plan = new SamplePlan([firstSegment(HASH, 1000, 100, 7, version)]);
      const state = planStateOf('step-25', JSON.parse(JSON.stringify(plan.state(25, 64))));
      expect(segmentsOf(state)).toEqual([firstSegment(HASH, 1000, 100, 7, version)]);
      plan.check(state, 25, 64);
    }
  });

  test('goes on only from a state of its own', () => {
    const plan = new SamplePlan([firstSegment(HASH, 1000, 100, 7)]);
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

describe('a plan with segments', () => {
  const BATCH = 24;
  const random = generator(14);
  const below = (n: number) => Math.floor(random() * n);
  const hashOf = (i: number) => `${i}${HASH.slice(1)}`;
  const idsOf = (plan: SamplePlan, step: number) => plan.samples(step, BATCH, 0, BATCH).sampleIds.join();

  /** Segments as runs make them: rows are added, corrected or taken away, at steps of the checkpoints. */
  function someSegments(): Segment[] {
    const held = below(40);
    const all = [firstSegment(hashOf(0), 64 + held + below(400), held, 3)];
    for (let i = 1; i <= 1 + below(4); i++) {
      const { firstStep, rows, heldOutHash, heldOutRows } = all.at(-1)!;
      const [datasetHash, more] = [hashOf(below(3)), below(3) * below(300)];
      const isFewer = rows > 200 && below(4) === 0;
      const now = isFewer ? rows - 100 : rows + more;
      const kept = isFewer ? { heldOutHash: datasetHash, heldOutRows: now } : { heldOutHash, heldOutRows };
      all.push({ ...all[0]!, firstStep: firstStep + 1 + below(20), datasetHash, rows: now, ...kept });
    }
    return all;
  }

  const cases = Array.from({ length: 15 }, someSegments);

  test('draws every training row of a segment once an epoch, from its first step on, and no held-out row', () => {
    for (const segments of cases) {
      const plan = new SamplePlan(segments);
      for (const [i, segment] of segments.entries()) {
        const { firstStep, rows, validationRows } = segment;
        const own = new SamplePlan(segments.slice(0, i + 1));
        const training = rows - validationRows;
        const steps =
          (segments[i + 1]?.firstStep ?? firstStep + Math.ceil((2 * training) / BATCH)) - firstStep;
        const drawn = Array.from({ length: steps }, (_, s) => [...rowsOf(plan, firstStep + s, BATCH)]).flat();
        for (let epoch = 0; epoch * training < drawn.length; epoch++) {
          const some = drawn.slice(epoch * training, (epoch + 1) * training);
          expect(new Set(some).size).toBe(some.length);
        }
        expect(Math.max(...drawn)).toBeLessThan(rows);
        expect(drawn.filter((row) => own.validation.includes(row))).toEqual([]);
      }
    }
  });

  test('draws the same samples from every checkpoint on, and leaves those of earlier steps as they were', () => {
    for (const segments of cases) {
      const plan = new SamplePlan(segments);
      for (const [i, { firstStep }] of segments.entries()) {
        const before = new SamplePlan(segments.slice(0, Math.max(1, i)));
        for (let step = 1; step < firstStep; step++) {
          expect(idsOf(plan, step)).toBe(idsOf(before, step));
        }
        // A checkpoint of the segment, and one of the step before it, from which it began.
        for (const step of [firstStep, firstStep + 3, ...(i > 0 ? [firstStep - 1] : [])]) {
          const until = segments.filter((segment) => segment.firstStep <= step);
          const state = planStateOf(
            'x',
            JSON.parse(JSON.stringify(new SamplePlan(until).state(step, BATCH))),
          );
          expect(segmentsOf(state)).toEqual(until);
          plan.check(state, step, BATCH);
          const resumed = new SamplePlan([...segmentsOf(state), ...segments.slice(until.length)]);
          for (let later = step + 1; later < step + 8; later++) {
            expect(idsOf(resumed, later)).toBe(idsOf(plan, later));
          }
        }
      }
    }
  });

  test('has another order when it goes back to former data, and holds the same rows out', () => {
    const first = firstSegment(HASH, 500, 20, 7);
    const extended = { ...first, firstStep: 11, datasetHash: OTHER_HASH, rows: 600 };
    const plan = new SamplePlan([first, extended, { ...first, firstStep: 21 }]);
    expect([...rowsOf(plan, 21, BATCH)]).not.toEqual([...rowsOf(plan, 1, BATCH)]);
    expect(plan.validation).toEqual(new SamplePlan([first]).validation);
  });

  test('refuses a checkpoint of other segments', () => {
    const first = firstSegment(HASH, 500, 20, 7);
    const extended = { ...first, firstStep: 11, datasetHash: OTHER_HASH, rows: 600 };
    const state = new SamplePlan([first, extended]).state(15, BATCH);
    expect(() => new SamplePlan([first]).check(state, 15, BATCH)).toThrow(
      /first step of a segment 11, .* none/,
    );
    const later = new SamplePlan([first, { ...extended, firstStep: 12 }]);
    expect(() => later.check(state, 15, BATCH)).toThrow(/first step of a segment 11, this run has 12/);
    const other = new SamplePlan([first, { ...extended, rows: 601 }]);
    expect(() => other.check(state, 15, BATCH)).toThrow(/number of rows 600, this run has 601/);
  });

  test.each([
    ['no segment', []],
    ['a gap before the first', [{ ...firstSegment(HASH, 500, 20, 7), firstStep: 2 }]],
    ['two that begin together', [firstSegment(HASH, 500, 20, 7), firstSegment(HASH, 500, 20, 7)]],
    ['held-out rows that are not there', [{ ...firstSegment(HASH, 500, 20, 7), heldOutRows: 501 }]],
    ['a hash that is none', [{ ...firstSegment(HASH, 500, 20, 7), datasetHash: 'x' }]],
  ])('does not read a state with %s', (_, segments) => {
    const state = { ...new SamplePlan([firstSegment(HASH, 500, 20, 7)]).state(5, BATCH), segments };
    expect(() => planStateOf('step-5', state)).toThrow(expect.objectContaining({ code: 'ERR_PLAN' }));
  });

  test('compares validations as long as the same rows are held out', () => {
    const first = firstSegment(HASH, 500, 20, 7);
    const extended = { ...first, firstStep: 11, datasetHash: OTHER_HASH, rows: 600 };
    const drawn = { ...extended, firstStep: 21, rows: 400, heldOutHash: OTHER_HASH, heldOutRows: 400 };
    expect([[first], [first, extended], [first, extended, drawn]].map(comparableFrom)).toEqual([1, 1, 21]);
    expect(comparableFrom([first, extended, drawn, { ...drawn, firstStep: 31 }])).toBe(21);
  });
});
