import { describe, expect, test } from 'vitest';
import { DENSITY_FORMS, densityOf, densityProblem, MODE_LIMIT } from '../../../src/objective/density.js';
import { drawUniforms, STREAM } from '../../../src/random/philox.js';

const N = 20_000;
/**
 * Kolmogorov-Smirnov distance that a right sampler exceeds once in a thousand times; draws are fixed by
 * counter.
 */
const BOUND = 1.95 / Math.sqrt(N);

function draws(text: string): Float64Array {
  const density = densityOf(text);
  const times = new Float64Array(N);
  for (let i = 0; i < N; i++) {
    const [u1, u2] = drawUniforms({ seed: 11n, stream: STREAM.time, step: 3, sampleId: i });
    times[i] = density(u1!, u2!);
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

describe('written densities', () => {
  test('may have spaces and exponents', () => {
    const drawn = densityOf('lognorm(0.5,1)')(0.3, 0.6);
    expect(densityOf('lognorm( +.5 , 10e-1 )')(0.3, 0.6)).toBe(drawn);
  });

  test.each(['lognorm', 'lognorm(1)', 'mode(1, 2)', 'uniform()', 'toString', 'mode(x)', ''])(
    '"%s" is refused',
    (text) => {
      expect(() => densityOf(text)).toThrow(
        expect.objectContaining({
          code: 'ERR_CONFIG',
          message: `objective.density: expected uniform, lognorm(m, s), mode(s) or cosmap, received "${text}"`,
        }),
      );
    },
  );

  test('have parameters in their range', () => {
    expect(DENSITY_FORMS).toBe('uniform, lognorm(m, s), mode(s) or cosmap');
    expect(densityProblem('lognorm(-3, 0)')).toBe('s of lognorm(m, s) to be greater than 0');
    expect(densityProblem('mode(-1.01)')).toBe('s of mode(s) to be from -1 to 1.7519');
    for (const right of ['uniform', 'cosmap', 'lognorm(-3, 0.1)', 'mode(-1)', `mode(${MODE_LIMIT})`]) {
      expect(densityProblem(right)).toBeNull();
    }
  });
});
