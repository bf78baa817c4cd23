/**
 * Sampling along each formulation's path, by closed forms: one sampler is right for every path and target.
 */
import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { SIGMA_DATA } from '../../../src/objective/formulations.js';
import type { Objective } from '../../../src/objective/objective.js';
import { GRID_KINDS } from '../../../src/objective/paths.js';
import { initialNoise } from '../../../src/sampling/noise.js';
import { type Network, type SampleOptions, sampleLatents } from '../../../src/sampling/sampler.js';
import { SOLVERS, type SolverName } from '../../../src/sampling/solvers.js';
import { ALL, objectiveNamed, PATHS } from '../../support/formulations.js';

/** The order at which each solver converges. */
const ORDERS: Record<SolverName, number> = { euler: 1, heun: 2, 'dpmpp-2m': 2 };

const SIZE = 6;
const SEED = 9n;
const isTable = (name: string) => /linear|ddpm/.test(name);

function draw(network: Network, objective: Objective, steps: number, more: Partial<SampleOptions> = {}) {
  const prompt = { count: 1, context: new Float32Array(1), pooled: new Float32Array(1) };
  return sampleLatents(network, prompt, {
    latent: [1, 1, SIZE],
    objective,
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

/**
 * The best possible network where x0 ~ N(mean, deviation^2): it puts out p E[x0 | z] + q E[eps | z]. It is
 * told the timestep alone, in fp32, and finds the level among those of the run.
 */
function exact(objective: Objective, mean: number, deviation: number, steps: number): Network {
  const points = GRID_KINDS.slice(0, 2).flatMap((kind) =>
    objective.grid(kind, steps).map((level) => objective.at(level)),
  );
  return async ({ z, timestep }) => {
    const { a, b, p, q } = points.find((point) => Math.fround(point.timestep) === timestep[0])!;
    const variance = deviation ** 2;
    return z.map((value) => {
      const x0 = mean + ((a * variance) / (a * a * variance + b * b)) * (value - a * mean);
      return p * x0 + (q * (value - a * x0)) / b;
    });
  };
}

/** The deviation of the drawn latents, which are an affine function of the noise. */
async function drawnDeviation(objective: Objective, steps: number, more: Partial<SampleOptions> = {}) {
  const drawn = await draw(exact(objective, 0.7, 0.4, steps), objective, steps, more);
  const noise = initialNoise(SEED, 0, SIZE);
  const slope = (drawn[1]! - drawn[0]!) / (noise[1]! - noise[0]!);
  for (let i = 2; i < SIZE; i++) {
    expect(drawn[i]).toBeCloseTo(drawn[0]! + slope * (noise[i]! - noise[0]!), 4);
  }
  return slope;
}

/**
 * The deviation that infinitely many steps lead to. The flow keeps the ratio of z to the deviation of its
 * marginal. What remains is that the first z has noise alone, and what the last step does: on paths in sigma
 * it goes from the smallest sigma to data, and in tables sampling ends at the noise of the lowest level.
 */
function limit(objective: Objective, steps: number): number {
  const points = objective.grid('uniform', steps).map((level) => objective.at(level));
  const marginal = ({ a, b }: { a: number; b: number }) => Math.sqrt((0.4 * a) ** 2 + b ** 2);
  const [first, beforeLast, last] = [points[0]!, points.at(-2)!, points.at(-1)!];
  const scale = Math.sqrt(first.a ** 2 + first.b ** 2) / marginal(first);
  if (last.b > 0) return (scale * marginal(last)) / last.a;
  const inSigma = objective.formulation.name.startsWith('edm');
  return inSigma ? (scale * 0.16 * beforeLast.a) / marginal(beforeLast) : scale * 0.4;
}

describe('sampling with a network of zeros gives the noise times a known number', () => {
  const product = (objective: Objective, steps: number, factor: (from: Level, to: Level) => number) => {
    const levels = objective.grid('uniform', steps).map((level) => objective.formulation.path.at(level));
    return levels.slice(1).reduce((all, to, i) => all * factor(levels[i]!, to), 1);
  };
  type Level = { a: number; b: number };

  /** The number in closed form: paper.md's for each target. */
  function expected(name: string, steps: number): number {
    const objective = objectiveNamed(name);
    const [first, last] = [objective.grid('uniform', steps)[0]!, objective.grid('uniform', steps).at(-1)!];
    const { path } = objective.formulation;
    if (name.startsWith('rf')) return 1;
    if (name === 'v/cos') return Math.cos(Math.PI / (2 * steps)) ** steps;
    if (name.startsWith('eps')) return 1 / path.at(first).a;
    if (name === 'v/linear') {
      return product(objective, steps, (from, to) => to.a * from.a + to.b * from.b) / path.at(last).a;
    }
    const step = ({ b: sigma }: Level, { b: next }: Level) =>
      1 + ((next - sigma) * sigma) / (sigma ** 2 + SIGMA_DATA ** 2);
    return Math.sqrt(1 + path.at(first).b ** 2) * product(objective, steps, step);
  }

  test.each(ALL)('%s', async (name) => {
    for (const steps of [1, 10, 50]) {
      const drawn = await draw(async ({ z }) => new Float32Array(z.length), objectiveNamed(name), steps);
      const factor = expected(name, steps);
      for (const [i, noise] of initialNoise(SEED, 0, SIZE).entries()) {
        expect(Math.abs(drawn[i]! / noise / factor - 1)).toBeLessThan(2e-5);
      }
    }
  });

  test('numbers from the paper design', () => {
    expect(expected('v/cos', 10)).toBeCloseTo(0.88349, 5);
    expect(expected('eps/cos', 10)).toBeCloseTo(636.6, 1);
    expect(expected('eps/linear', 10)).toBeCloseTo(1 / 0.0683, 1);
  });
});

describe('sampling with the exact network', () => {
  test.each([
    ['rf', [0.285, 0.339, 0.375, 0.387]],
    ['v/cos', [0.275, 0.334, 0.372, 0.386]],
  ] as const)('%s gives too small deviations at 5, 10, 25 and 50 steps', async (name, expected) => {
    for (const [i, steps] of [5, 10, 25, 50].entries()) {
      const found = await drawnDeviation(objectiveNamed(name), steps);
      expect(Math.abs(found - expected[i]!)).toBeLessThan(5.1e-4);
    }
  });

  describe.each(Object.entries(ORDERS))('by %s', (solver, order) => {
    test.each(ALL)(`%s converges at order ${order}`, async (name) => {
      const objective = objectiveNamed(name);
      // In tables, numbers of steps that divide the 999 intervals. The last two that err by more than what
      // fp32 rounds tell the order.
      const counts = isTable(name) ? [37, 111, 333] : [10, 20, 40, 80, 160, 320];
      const errors: { steps: number; error: number }[] = [];
      for (const steps of counts) {
        const found = await drawnDeviation(objective, steps, { solver: solver as SolverName });
        const error = Math.abs(found - limit(objective, steps));
        if (error > 1.5e-5) errors.push({ steps, error });
      }
      const [coarse, fine] = [errors.at(-2)!, errors.at(-1)!];
      expect(fine.error).toBeLessThan(0.02);
      const observed = Math.log(coarse.error / fine.error) / Math.log(fine.steps / coarse.steps);
      expect(observed).toBeGreaterThan(order - 0.5);
      expect(observed).toBeLessThan(order + 0.8);
    });
  });

  test.each(PATHS)('%s finds a single point in any number of steps, by every solver', async (name) => {
    for (const solver of Object.keys(SOLVERS) as SolverName[]) {
      for (const shift of [1, 3]) {
        for (const schedule of ['uniform', 'reference'] as const) {
          const objective = objectiveNamed(name, shift);
          const drawn = await draw(exact(objective, -1.5, 0, 7), objective, 7, { solver, schedule });
          // In tables, uniform steps end where the noise is still 0.03.
          for (const value of drawn) expect(Math.abs(value + 1.5)).toBeLessThan(isTable(name) ? 0.1 : 1e-4);
        }
      }
    }
  });
});

describe('the solvers', () => {
  test.each(Object.entries(SOLVERS))('%s reports steps, and leaves its input alone', async (_, solver) => {
    const start = Float32Array.of(1);
    const done: number[] = [];
    const model = async () => ({ x0: Float64Array.of(3), eps: Float64Array.of(0) });
    const path = [1, 0.5, 0].map((t) => objectiveNamed('rf').at(t));
    const end = await solver(model, start, path, (n) => done.push(n));
    expect([...end]).toEqual([3]);
    expect(done).toEqual([1, 2]);
    expect([...start]).toEqual([1]);
  });

  test('dpmpp-2m is the released sampler of rectified flow, its first and last step included', async () => {
    const sigmas = objectiveNamed('rf', 3).grid('reference', 8);
    const denoised = (x: number, sigma: number) => Math.sin(3 * x) + sigma * sigma;
    // sample_dpmpp_2m of the released inference code.
    let [x, old] = [0.8, 0];
    for (const [i, sigma] of sigmas.slice(0, -1).entries()) {
      const now = denoised(x, sigma);
      const [t, next] = [-Math.log(sigma), -Math.log(sigmas[i + 1]!)];
      const h = next - t;
      let data = now;
      if (i > 0 && sigmas[i + 1] !== 0) {
        const r = (t + Math.log(sigmas[i - 1]!)) / h;
        data = (1 + 1 / (2 * r)) * now - (1 / (2 * r)) * old;
      }
      x = (sigmas[i + 1]! / sigma) * x - Math.expm1(-h) * data;
      old = now;
    }
    const path = sigmas.map((t) => objectiveNamed('rf').at(t));
    const end = await SOLVERS['dpmpp-2m'](
      async ([z], { b }) => ({ x0: Float64Array.of(denoised(z!, b)), eps: Float64Array.of(Number.NaN) }),
      Float32Array.of(0.8),
      path,
      () => {},
    );
    expect(end[0]).toBeCloseTo(x, 5);
  });

  test('euler on rf has the bits that it had when it was alone', async () => {
    const hashes = [];
    for (const schedule of ['uniform', 'reference'] as const) {
      const hash = createHash('sha256');
      for (const shift of [1, 1.6, 3]) {
        for (const steps of [1, 7, 20]) {
          const network: Network = async ({ z, timestep, context }) =>
            z.map((v, i) => 0.3 * v + Math.fround(timestep[0]! / 700) - context[i % context.length]!);
          const prompts = { count: 2, context: Float32Array.of(1, -0.5), pooled: Float32Array.of(0, 0) };
          hash.update(
            await sampleLatents(network, prompts, {
              latent: [1, 2, 8],
              objective: objectiveNamed('rf', shift),
              solver: 'euler',
              schedule,
              steps,
              guidance: 2.5,
              seed: 3n,
              batch: 2,
              onProgress: () => {},
            }),
          );
        }
      }
      hashes.push(hash.digest('hex'));
    }
    expect(hashes).toEqual([
      '651a76c8afb24cc577f59d9b68a6e06b902aec84f7a70311fe9d7a20be56583f',
      'f2e9560709488058a00138cc0522745626d6f46c23ed2226a1bd9a851bf41930',
    ]);
  });
});
