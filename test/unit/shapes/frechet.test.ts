import { describe, expect, test } from 'vitest';
import {
  FEATURE_COUNT,
  FrechetReference,
  latentMoments,
  normalOf,
} from '../../../src/shapes/evaluation/frechet.js';
import { eigenOf, identity, product, squareRoot } from '../../../src/shapes/evaluation/symmetric.js';
import { drawPicture } from '../../../src/shapes/kinds.js';
import { render } from '../../../src/shapes/render.js';
import { generator } from '../../support/random.js';

/** B B' of a random B: symmetric and positive. */
function positive(n: number, random: () => number): Float64Array {
  const b = Float64Array.from({ length: n * n }, () => random() - 0.5);
  const transposed = b.map((_, i) => b[(i % n) * n + Math.floor(i / n)]!);
  return product(b, transposed, n);
}

function expectClose(found: Float64Array, expected: Float64Array, digits: number): void {
  found.forEach((value, i) => {
    expect(value).toBeCloseTo(expected[i]!, digits);
  });
}

describe('symmetric matrices', () => {
  test('a matrix of two rows has its eigenvalues in closed form', () => {
    const { values } = eigenOf(Float64Array.of(2, 1, 1, 2), 2);
    expect([...values].sort()).toEqual([expect.closeTo(1, 12), expect.closeTo(3, 12)]);
  });

  test('A v = lambda v, and the vectors are orthonormal', () => {
    const n = 12;
    const matrix = positive(n, generator(1));
    const { values, vectors } = eigenOf(matrix, n);
    const left = product(matrix, vectors, n);
    expectClose(
      left,
      vectors.map((value, i) => value * values[i % n]!),
      10,
    );
    const transposed = vectors.map((_, i) => vectors[(i % n) * n + Math.floor(i / n)]!);
    expectClose(product(transposed, vectors, n), identity(n), 10);
  });

  test('the square of the root is the matrix, also of one without full rank', () => {
    const n = 6;
    const matrix = positive(n, generator(2));
    expectClose(product(squareRoot(matrix, n), squareRoot(matrix, n), n), matrix, 10);
    const flat = Float64Array.from({ length: 4 }, () => 1);
    expectClose(product(squareRoot(flat, 2), squareRoot(flat, 2), 2), flat, 10);
  });
});

describe('Frechet distance', () => {
  const random = generator(5);
  const rows = (count: number, ...scales: number[]) =>
    Array.from({ length: count }, () => Float64Array.from(scales, (scale) => scale * (random() - 0.5)));
  const all = rows(400, 1, 3, 10);
  const reference = new FrechetReference(normalOf(all));
  const standardised = all.map((row) => reference.standardised(row));

  test('of the reference to itself is zero', () => {
    expect(reference.distance(standardised)).toBeCloseTo(0, 10);
  });

  test('a moved mean adds its square, in deviations of the reference', () => {
    const moved = standardised.map((row) => row.map((value, i) => value + [0.5, 0, 2][i]!));
    expect(reference.distance(moved)).toBeCloseTo(0.25 + 4, 10);
  });

  test('a scale s adds (1 - s)^2 for each feature', () => {
    const scaled = standardised.map((row) => row.map((value) => 1.5 * value));
    expect(reference.distance(scaled)).toBeCloseTo(3 * 0.25, 10);
  });

  test('of independent features it is the sum over them', () => {
    const one = new FrechetReference(normalOf([-1, 1].map((x) => Float64Array.of(x))));
    // Reference: deviation sqrt(2), standardised 1. Rows: mean 3, deviation sqrt(2) * 4 of [-1, 7].
    expect(one.distance([-1, 7].map((x) => Float64Array.of(x)))).toBeCloseTo(
      9 + (Math.sqrt(32) - 1) ** 2,
      10,
    );
  });

  test('a feature that is constant in the reference counts as it is', () => {
    const constant = new FrechetReference(normalOf([-1, 1].map((x) => Float64Array.of(x, 7))));
    expect(constant.standardised(Float64Array.of(0, 9))[1]).toBe(2);
  });

  test('is nearer for pictures of the same kind, and the nearer the more there are', () => {
    const pictures = (kind: 'scenes' | 'photos', from: number, count: number) =>
      Array.from({ length: count }, (_, i) => latentMoments(render(drawPicture(kind, 0n, from + i).scene)));
    const photos = new FrechetReference(normalOf(pictures('photos', 0, 400)));
    const far = (kind: 'scenes' | 'photos', count: number) =>
      photos.distance(pictures(kind, 1000, count).map((row) => photos.standardised(row)));
    expect(pictures('photos', 0, 1)[0]).toHaveLength(FEATURE_COUNT);
    const [few, many, others] = [far('photos', 60), far('photos', 240), far('scenes', 240)];
    expect(many).toBeLessThan(few);
    expect(others).toBeGreaterThan(2 * many);
  });
});
