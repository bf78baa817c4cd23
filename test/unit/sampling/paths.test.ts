/**
 * Sampling along each formulation's path, by closed forms: the same sampler must be right for paths and
 * targets that it was not written for.
 */
import { describe, expect, test } from 'vitest';
import type { Formulation } from '../../../src/objective/formulations.js';
import { initialNoise } from '../../../src/sampling/noise.js';
import { type Network, type SampleOptions, sampleLatents } from '../../../src/sampling/sampler.js';
import { SOLVERS, type SolverName } from '../../../src/sampling/solvers.js';
import { EDM_DEVIATION, EDM_SIGMA, PATHS, uniformObjective } from '../../support/formulations.js';

/** The order at which each solver converges, and a number of steps from which it does on `rf`. */
const ORDERS: Record<SolverName, [order: number, steps: number]> = { euler: [1, 100] };

const SIZE = 6;
const SEED = 9n;

function draw(network: Network, formulation: Formulation, steps: number, more: Partial<SampleOptions> = {}) {
  const prompt = { count: 1, context: new Float32Array(1), pooled: new Float32Array(1) };
  return sampleLatents(network, prompt, {
    latent: [1, 1, SIZE],
    objective: uniformObjective(formulation),
    solver: 'euler',
    schedule: 'uniform',
    steps,
    guidance: 1,
    seed: SEED,
    batch: 1,
    onProgress: () => {},
    ...more,
  });
}

/** The best possible network where x0 ~ N(mean, deviation^2): it puts out p E[x0 | z] + q E[eps | z]. */
function exact(formulation: Formulation, mean: number, deviation: number): Network {
  return async ({ z, timestep }) => {
    const { a, b, p, q } = formulation(timestep[0]! / 1000);
    const variance = deviation ** 2;
    return z.map((value) => {
      const x0 = mean + ((a * variance) / (a * a * variance + b * b)) * (value - a * mean);
      return p * x0 + (q * (value - a * x0)) / b;
    });
  };
}

/** The deviation of the drawn latents, which are an affine function of the noise. */
async function drawnDeviation(
  formulation: Formulation,
  steps: number,
  solver: SolverName = 'euler',
): Promise<number> {
  const drawn = await draw(exact(formulation, 0.7, 0.4), formulation, steps, { solver });
  const noise = initialNoise(SEED, 0, SIZE);
  const slope = (drawn[1]! - drawn[0]!) / (noise[1]! - noise[0]!);
  for (let i = 2; i < SIZE; i++) {
    expect(drawn[i]).toBeCloseTo(drawn[0]! + slope * (noise[i]! - noise[0]!), 4);
  }
  return slope;
}

describe('sampling with a network of zeros gives the noise times a known number', () => {
  const edmFactor = (steps: number) => {
    const sigma = (i: number) => EDM_SIGMA * (1 - i / steps);
    let factor = Math.sqrt(1 + sigma(0) ** 2);
    for (let i = 0; i < steps; i++) {
      factor *= 1 + ((sigma(i + 1) - sigma(i)) * sigma(i)) / (sigma(i) ** 2 + EDM_DEVIATION ** 2);
    }
    return factor;
  };
  test.each([
    ['rf', 10, 1],
    ['v/cos', 10, 0.88349],
    ['v/cos', 4, Math.cos(Math.PI / 8) ** 4],
    ['edm', 10, edmFactor(10)],
    ['edm', 50, edmFactor(50)],
  ] as const)('%s in %i steps', async (name, steps, factor) => {
    const drawn = await draw(async ({ z }) => new Float32Array(z.length), PATHS[name], steps);
    const noise = initialNoise(SEED, 0, SIZE);
    drawn.forEach((value, i) => {
      expect(value / noise[i]!).toBeCloseTo(factor, 5);
    });
  });
});

describe('sampling with the exact network', () => {
  test.each([
    ['rf', [0.285, 0.339, 0.375, 0.387]],
    ['v/cos', [0.275, 0.334, 0.372, 0.386]],
  ] as const)('%s gives too small deviations at 5, 10, 25 and 50 steps', async (name, expected) => {
    for (const [i, steps] of [5, 10, 25, 50].entries()) {
      expect(Math.abs((await drawnDeviation(PATHS[name], steps)) - expected[i]!)).toBeLessThan(5.1e-4);
    }
  });

  describe.each(Object.entries(ORDERS))('by %s', (solver, [order, steps]) => {
    // EDM's noise has many times the deviation of the data, so its path needs more steps.
    test.each([
      ['rf', steps],
      ['v/cos', steps],
      ['edm', 4 * steps],
    ] as const)(`%s converges at order ${order}`, async (name, few) => {
      const [coarse, middle, fine] = await Promise.all(
        [few, 2 * few, 4 * few].map((n) => drawnDeviation(PATHS[name], n, solver as SolverName)),
      );
      expect(Math.abs(fine! - 0.4)).toBeLessThan(0.005);
      const ratio = (middle! - coarse!) / (fine! - middle!);
      expect(ratio).toBeGreaterThan(0.95 * 2 ** order);
      expect(ratio).toBeLessThan(1.1 * 2 ** order);
    });
  });

  test.each(['rf', 'v/cos', 'edm'] as const)(
    '%s finds a single point in any number of steps',
    async (name) => {
      for (const shift of [1, 3]) {
        const objective = uniformObjective(PATHS[name], shift);
        const drawn = await draw(exact(PATHS[name], -1.5, 0), PATHS[name], 7, { objective });
        for (const value of drawn) expect(value).toBeCloseTo(-1.5, 5);
      }
    },
  );
});

describe('SOLVERS', () => {
  test.each(Object.entries(SOLVERS))('%s reports steps, and leaves its input alone', async (_, solver) => {
    const start = Float32Array.of(1);
    const done: number[] = [];
    const model = async () => ({ x0: Float64Array.of(3), eps: Float64Array.of(0) });
    const end = await solver(model, start, [1, 0.5, 0].map(PATHS.rf), (n) => done.push(n));
    expect([...end]).toEqual([3]);
    expect(done).toEqual([1, 2]);
    expect([...start]).toEqual([1]);
  });
});
