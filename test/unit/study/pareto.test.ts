import { describe, expect, test } from 'vitest';
import {
  averageRanks,
  type Point,
  paretoRanks,
  placesOf,
  rankCorrelation,
} from '../../../src/study/pareto.js';
import { generator } from '../../support/random.js';

const points = (...pairs: [number, number][]): Point[] =>
  pairs.map(([followed, frechet]) => ({ followed, frechet }));

/** Peels fronts as the paper describes it: whoever nobody that is left dominates is taken away together. */
function peeled(all: readonly Point[]): number[] {
  const ranks = all.map(() => 0);
  for (let rank = 1; ranks.includes(0); rank++) {
    const left = all.map((_, i) => i).filter((i) => ranks[i] === 0);
    const better = (a: Point, b: Point) =>
      a.followed >= b.followed &&
      a.frechet <= b.frechet &&
      (a.followed !== b.followed || a.frechet !== b.frechet);
    const front = left.filter((i) => !left.some((j) => better(all[j]!, all[i]!)));
    for (const i of front) ranks[i] = rank;
  }
  return ranks;
}

describe('ranks by two scores', () => {
  test.each([
    ['nothing', points(), []],
    ['one', points([0.5, 3]), [1]],
    ['a trade-off is one front', points([0.9, 5], [0.7, 3], [0.5, 1]), [1, 1, 1]],
    ['a chain is as many fronts', points([0.5, 5], [0.7, 3], [0.9, 1]), [3, 2, 1]],
    ['equal points share a front', points([0.5, 2], [0.5, 2], [0.4, 3]), [1, 1, 2]],
    ['one better score is enough where the other is equal', points([0.5, 2], [0.5, 1], [0.6, 2]), [2, 1, 1]],
    ['fronts beside each other', points([0.9, 9], [0.8, 9.5], [0.1, 1], [0.05, 2]), [1, 2, 1, 2]],
  ])('%s', (_, all, expected) => expect(paretoRanks(all)).toEqual(expected));

  test('are those of peeling front after front', () => {
    const random = generator(7);
    for (let round = 0; round < 200; round++) {
      // Few different values, so that many are equal.
      const values = 2 + Math.floor(8 * random());
      const draw = () => Math.floor(values * random());
      const all = points(
        ...Array.from({ length: 1 + (round % 40) }, (): [number, number] => [draw(), draw()]),
      );
      expect(paretoRanks(all)).toEqual(peeled(all));
    }
  });

  test('are averaged over settings', () => {
    const settings = [points([0.9, 1], [0.5, 5], [0.6, 4]), points([0.1, 9], [0.5, 5], [0.4, 6])];
    expect(averageRanks(settings)).toEqual([2, 2, 2]);
    expect(averageRanks(settings.slice(0, 1))).toEqual([1, 3, 2]);
  });
});

describe('rank correlation', () => {
  test('equal values share their place', () => expect(placesOf([3, 1, 3, 2])).toEqual([3.5, 1, 3.5, 2]));

  test.each([
    [[1, 2, 3], [10, 20, 90], 1],
    [[1, 2, 3], [3, 2, 1], -1],
    // Spearman's formula 1 - 6 sum(d^2) / (n (n^2 - 1)).
    [[1, 2, 3, 4, 5], [2, 1, 4, 3, 5], 1 - (6 * 4) / (5 * 24)],
    [[1, 1, 1], [1, 2, 3], null],
  ])('%j and %j: %d', (a, b, expected) => {
    const found = rankCorrelation(a, b);
    if (expected === null) expect(found).toBeNull();
    else expect(found).toBeCloseTo(expected, 12);
  });
});
