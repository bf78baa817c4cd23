import { describe, expect, test } from 'vitest';
import { MODE_LIMIT, parseDensity, sampleTime, shiftTime } from '../../../src/objective/density.js';
import { FORMULATIONS } from '../../../src/objective/formulations.js';
import { drawUniforms, STREAM } from '../../../src/random/philox.js';

const N = 20_000;
/**
 * Kolmogorov-Smirnov distance that a right sampler exceeds once in a thousand times; draws are fixed by
 * counter.
 */
const BOUND = 1.95 / Math.sqrt(N);

function draws(text: string): Float64Array {
  const density = parseDensity(text)!;
  const times = new Float64Array(N);
  for (let i = 0; i < N; i++) {
    const [u1, u2] = drawUniforms({ seed: 11n, stream: STREAM.time, step: 3, sampleId: i });
    times[i] = sampleTime(density, u1!, u2!);
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

describe('densities of t', () => {
  test.each([
    ['uniform', (t: number) => t],
    ['lognorm(0, 1)', lognormCdf(0, 1)],
    ['lognorm(0.5,0.6)', lognormCdf(0.5, 0.6)],
    ['lognorm(-1, 2.2)', lognormCdf(-1, 2.2)],
    ['mode(1.29)', modeCdf(1.29)],
    ['mode(-1)', modeCdf(-1)],
    ['mode(0)', (t: number) => t],
    [`mode(${MODE_LIMIT})`, modeCdf(MODE_LIMIT)],
    ['cosmap', (t: number) => integrate(cosmapPdf, 0, t)],
  ])('%s follows its distribution', (text, cdf) => {
    const times = draws(text);
    expect(times[0]).toBeGreaterThanOrEqual(0);
    expect(times[N - 1]).toBeLessThanOrEqual(1);
    expect(distance(times, cdf)).toBeLessThan(BOUND);
  });

  test.each(['lognorm(0, 1)', 'lognorm(1, 0.6)', 'mode(1.29)', 'cosmap'])(
    '%s is told from uniform',
    (text) => {
      expect(distance(draws(text), (t) => t)).toBeGreaterThan(2 * BOUND);
    },
  );

  test('leans to noise for positive m, not to data (a mistake of public trainers)', () => {
    const times = draws('lognorm(1, 0.6)');
    expect(times[N / 2]).toBeCloseTo(1 / (1 + Math.exp(-1)), 2);
    expect(distance(times, lognormCdf(-1, 0.6))).toBeGreaterThan(0.5);
  });

  test('favours the middle for positive s of mode, the ends for negative', () => {
    const inMiddle = (text: string) => draws(text).filter((t) => t > 0.25 && t < 0.75).length / N;
    expect(inMiddle('mode(1.29)')).toBeGreaterThan(0.55);
    expect(inMiddle('mode(-1)')).toBeLessThan(0.45);
  });
});

describe('shiftTime', () => {
  test('moves the log-SNR by -2 log alpha, and keeps the ends', () => {
    const lambda = (t: number) => 2 * Math.log((1 - t) / t);
    for (const alpha of [0.5, 1, 3]) {
      expect(shiftTime(0, alpha)).toBe(0);
      expect(shiftTime(1, alpha)).toBe(1);
      for (const t of [0.01, 0.3, 0.5, 0.999]) {
        expect(lambda(shiftTime(t, alpha))).toBeCloseTo(lambda(t) - 2 * Math.log(alpha), 9);
      }
    }
    expect(shiftTime(0.5, 3)).toBe(0.75);
  });
});

describe('rectified flow', () => {
  test('is the straight path with a velocity target and plain MSE at every t', () => {
    for (const t of [0, 1e-6, 0.123456, 0.5, 1 - 1e-6, 1]) {
      // Weighting the velocity loss by sigma^2 is a mistake of public trainers.
      expect(FORMULATIONS.rf(t)).toEqual({ a: 1 - t, b: t, p: -1, q: 1, weight: 1, timestep: 1000 * t });
    }
  });

  test("is the paper's w_t = t / (1 - t) in the unified loss on eps", () => {
    // -1/2 w lambda' |eps_hat - eps|^2 with w = t/(1-t): the velocity error is the eps error times -(b' - a'
    // b / a).
    for (const t of [0.1, 0.5, 0.9]) {
      const lambdaSlope = -2 / (1 - t) - 2 / t;
      const unified = -0.5 * (t / (1 - t)) * lambdaSlope;
      const { a, b, p, q } = FORMULATIONS.rf(t);
      // From z = a x0 + b eps: target = p (z - b eps) / a + q eps, so its error is (q - p b / a) times that
      // of eps.
      expect((q - (p * b) / a) ** 2).toBeCloseTo(unified, 9);
    }
  });
});
