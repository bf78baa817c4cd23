import { describe, expect, test } from 'vitest';
import { cosmap, type Density, lognorm, MODE_LIMIT, mode, uniform } from '../../../src/objective/density.js';
import { normalQuantile } from '../../../src/objective/normal.js';
import { drawUniforms, STREAM } from '../../../src/random/philox.js';

const N = 20_000;
/**
 * Kolmogorov-Smirnov distance that a right sampler exceeds once in a thousand times; draws are fixed by
 * counter.
 */
const BOUND = 1.95 / Math.sqrt(N);

function draws(density: Density): Float64Array {
  const times = new Float64Array(N);
  for (let i = 0; i < N; i++) {
    const [u1, u2] = drawUniforms({ seed: 11n, stream: STREAM.time, step: 3, sampleId: i });
    times[i] = density.draw(u1!, u2!);
  }
  return times.sort();
}

function distance(sorted: Float64Array, cdf: (t: number) => number): number {
  return sorted.reduce((worst, t, i) => {
    const f = cdf(t);
    return Math.max(worst, Math.abs(f - i / N), Math.abs(f - (i + 1) / N));
  }, 0);
}

/** Integral of a density by Simpson's rule: an independent way to a distribution function. */
function integrate(pdf: (x: number) => number, from: number, to: number, steps = 400): number {
  const h = (to - from) / steps;
  let sum = pdf(from) + pdf(to);
  for (let i = 1; i < steps; i++) sum += pdf(from + i * h) * (i % 2 ? 4 : 2);
  return (sum * h) / 3;
}

const normalCdf = (x: number) =>
  0.5 + integrate((y) => Math.exp((-y * y) / 2) / Math.sqrt(2 * Math.PI), 0, Math.max(-8, Math.min(8, x)));
const logit = (t: number) => Math.log(t / (1 - t));
const lognormCdf = (m: number, s: number) => (t: number) => normalCdf((logit(t) - m) / s);
const cosmapPdf = (t: number) => 2 / (Math.PI - 2 * Math.PI * t + 2 * Math.PI * t * t);

/** P(t <= x) of mode(s), by bisection of the paper's f, which falls from 1 to 0. */
function modeCdf(s: number): (x: number) => number {
  const f = (u: number) => 1 - u - s * (Math.cos((Math.PI * u) / 2) ** 2 - 1 + u);
  return (x) => {
    let low = 0;
    let high = 1;
    for (let i = 0; i < 60; i++) {
      const middle = (low + high) / 2;
      if (f(middle) > x) low = middle;
      else high = middle;
    }
    return 1 - low;
  };
}

/** Draws and density beside distribution functions that were computed in another way. */
const DISTRIBUTIONS: [name: string, density: Density, cdf: (t: number) => number][] = [
  ['uniform', uniform, (t) => t],
  ['lognorm(0,1)', lognorm(0, 1), lognormCdf(0, 1)],
  ['lognorm(0.5,0.6)', lognorm(0.5, 0.6), lognormCdf(0.5, 0.6)],
  ['lognorm(-1,2.2)', lognorm(-1, 2.2), lognormCdf(-1, 2.2)],
  ['mode(1.29)', mode(1.29), modeCdf(1.29)],
  ['mode(-1)', mode(-1), modeCdf(-1)],
  ['mode(0)', mode(0), (t) => t],
  ['mode(2/(pi-2))', mode(MODE_LIMIT), modeCdf(MODE_LIMIT)],
  ['cosmap', cosmap, (t) => integrate(cosmapPdf, 0, t)],
];

describe('densities of t', () => {
  test.each(DISTRIBUTIONS)('%s follows its distribution', (_, density, cdf) => {
    const times = draws(density);
    expect(times[0]).toBeGreaterThanOrEqual(0);
    expect(times[N - 1]).toBeLessThanOrEqual(1);
    expect(distance(times, cdf)).toBeLessThan(BOUND);
  });

  test.each(DISTRIBUTIONS)('%s has the density of its distribution', (_, density, cdf) => {
    for (const [from, to] of [
      [0.02, 0.2],
      [0.3, 0.45],
      [0.6, 0.97],
    ] as const) {
      const share = integrate((t) => density.pdf(t), from, to);
      expect(Math.abs(share - (cdf(to) - cdf(from)))).toBeLessThan(1e-6);
    }
  });

  test('the mode density is the arcsine law at s = -1, and 904 in the middle at s = 1.75', () => {
    for (const t of [1e-6, 0.1, 0.5, 1 - 1e-6]) {
      expect(mode(-1).pdf(t) * Math.PI * Math.sqrt(t * (1 - t))).toBeCloseTo(1, 6);
    }
    expect(Math.round(mode(1.75).pdf(0.5))).toBe(904);
    expect(mode(0).pdf(0.3)).toBe(1);
  });

  test.each([
    ['lognorm(0,1)', lognorm(0, 1)],
    ['lognorm(1,0.6)', lognorm(1, 0.6)],
    ['mode(1.29)', mode(1.29)],
    ['cosmap', cosmap],
  ])('%s is told from uniform', (_, density) => {
    expect(distance(draws(density), (t) => t)).toBeGreaterThan(2 * BOUND);
  });

  test('leans to noise for positive m, not to data (a mistake of public trainers)', () => {
    const times = draws(lognorm(1, 0.6));
    expect(times[N / 2]).toBeCloseTo(1 / (1 + Math.exp(-1)), 2);
    expect(distance(times, lognormCdf(-1, 0.6))).toBeGreaterThan(0.5);
  });

  test('favours the middle for positive s of mode, the ends for negative', () => {
    const inMiddle = (s: number) => draws(mode(s)).filter((t) => t > 0.25 && t < 0.75).length / N;
    expect(inMiddle(1.29)).toBeGreaterThan(0.55);
    expect(inMiddle(-1)).toBeLessThan(0.45);
  });
});

describe('the normal quantile', () => {
  test('inverts the distribution function', () => {
    for (const z of [-4.5, -3.1, -1, -0.2, 0, 0.7, 2.4, 4.5]) {
      expect(normalQuantile(normalCdf(z))).toBeCloseTo(z, 4);
    }
  });

  test('is right in the tails', () => {
    // Published quantiles.
    expect(normalQuantile(0.975)).toBeCloseTo(1.959963984540054, 13);
    expect(normalQuantile(0.001)).toBeCloseTo(-3.090232306167813, 13);
    expect(normalQuantile(1e-9)).toBeCloseTo(-5.997807015007687, 12);
    expect(normalQuantile(1e-20)).toBeCloseTo(-9.262340089798409, 12);
    expect([normalQuantile(0), normalQuantile(1)]).toEqual([-Infinity, Infinity]);
  });
});
