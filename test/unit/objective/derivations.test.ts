/** What the SD3 paper derives (section 2, appendix B.1), on data where everything has a closed form. */
import { describe, expect, test } from 'vitest';
import { denoise, epsilonErrorPerError } from '../../../src/objective/coefficients.js';
import { initialNoise } from '../../../src/sampling/noise.js';
import { SOLVERS } from '../../../src/sampling/solvers.js';
import { objectiveNamed, PATHS } from '../../support/formulations.js';

/** A finite data set of points in the plane, each as likely. */
const DATA = [
  [-1.2, 0.4],
  [0.3, 1.1],
  [0.9, -0.8],
] as const;

/** Probability of each point given z: N(z; a x0, b^2) over the sum of all (appendix B.1). */
function posterior(z: ArrayLike<number>, a: number, b: number): number[] {
  const exponents = DATA.map((x) => -((z[0]! - a * x[0]) ** 2 + (z[1]! - a * x[1]) ** 2) / (2 * b * b));
  const highest = Math.max(...exponents);
  const weights = exponents.map((exponent) => Math.exp(exponent - highest));
  const sum = weights.reduce((all, weight) => all + weight, 0);
  return weights.map((weight) => weight / sum);
}

/** E[x0 | z]. */
function meanOf(z: ArrayLike<number>, a: number, b: number): [number, number] {
  const shares = posterior(z, a, b);
  return [0, 1].map((k) => DATA.reduce((sum, x, i) => sum + shares[i]! * x[k]!, 0)) as [number, number];
}

describe('the marginal velocity (equation 6)', () => {
  test.each(PATHS)('carries noise into the data along the path of %s', async (name) => {
    const objective = objectiveNamed(name);
    const path = objective.grid('uniform', 200).map((level) => objective.at(level));
    const counts = DATA.map(() => 0);
    for (let i = 0; i < 60; i++) {
      const scale = Math.hypot(path[0]!.a, path[0]!.b);
      const start = initialNoise(7n, i, 2).map((value) => scale * value);
      // The expectations given z, and with them dz/dt = a' E[x0 | z] + b' E[eps | z].
      const marginal = async (z: Float32Array, { a, b }: { a: number; b: number }) => {
        const mean = meanOf(z, a, b);
        return { x0: Float64Array.from(mean), eps: Float64Array.from(mean, (x, k) => (z[k]! - a * x) / b) };
      };
      const last = path.at(-1)!;
      const end = (await SOLVERS.heun(marginal, start, path, () => {})).map((value) => value / last.a);
      const distances = DATA.map((x) => Math.hypot(end[0]! - x[0], end[1]! - x[1]));
      const nearest = distances.indexOf(Math.min(...distances));
      counts[nearest]!++;
      // In tables the lowest level still has noise of 0.03.
      expect(distances[nearest]).toBeLessThan(0.15);
    }
    for (const count of counts) expect(count).toBeGreaterThan(8);
  });
});

test('the losses of flow matching and of conditional flow matching have equal gradients (equations 30 to 36)', () => {
  // A network v(z) = A z + c at one t. Both expectations over z are integrals, here over a grid of the plane.
  const [a, b] = [0.4, 0.6];
  const network = [0.3, -0.7, 0.2, 0.9, -0.1, 0.4];
  const velocity = (z: readonly [number, number]) => [
    network[0]! * z[0] + network[1]! * z[1] + network[4]!,
    network[2]! * z[0] + network[3]! * z[1] + network[5]!,
  ];
  const gradients = { marginal: Array(6).fill(0), conditional: Array(6).fill(0) };
  const losses = { marginal: 0, conditional: 0 };
  const [reach, h] = [6, 0.05];
  for (let u = -reach; u < reach; u += h) {
    for (let v = -reach; v < reach; v += h) {
      const z = [u, v] as const;
      const out = velocity(z);
      const add = (kind: keyof typeof gradients, target: readonly number[], probability: number) => {
        const errors = out.map((value, k) => value - target[k]!);
        losses[kind] += probability * (errors[0]! ** 2 + errors[1]! ** 2);
        const parts = [
          errors[0]! * u,
          errors[0]! * v,
          errors[1]! * u,
          errors[1]! * v,
          errors[0]!,
          errors[1]!,
        ];
        for (const [i, part] of parts.entries()) gradients[kind][i] += 2 * probability * part;
      };
      // Given x0, the velocity at z is eps - x0 with eps = (z - a x0) / b.
      const given = (x: readonly number[]) => x.map((x0, k) => (z[k]! - a * x0) / b - x0);
      const densities = DATA.map(
        (x) =>
          ((h * h) / (2 * Math.PI * b * b * DATA.length)) *
          Math.exp(-((u - a * x[0]) ** 2 + (v - a * x[1]) ** 2) / (2 * b * b)),
      );
      add(
        'marginal',
        given(meanOf(z, a, b)),
        densities.reduce((sum, p) => sum + p, 0),
      );
      for (const [i, x] of DATA.entries()) add('conditional', given(x), densities[i]!);
    }
  }
  for (const [i, gradient] of gradients.conditional.entries()) {
    expect(gradients.marginal[i]).toBeCloseTo(gradient, 6);
    expect(Math.abs(gradient)).toBeGreaterThan(0.01);
  }
  // The losses themselves differ, by the variance of the velocity given z.
  expect(losses.conditional - losses.marginal).toBeGreaterThan(0.1);
});

test('the estimate of a constant image of n pixels deviates by t / ((1 - t) sqrt(n))', () => {
  // The best estimate of a constant from z = (1 - t) x0 + t eps is the mean of z / (1 - t) (section 5.3.2).
  const objective = objectiveNamed('rf');
  const constant = 0.7;
  for (const [t, n] of [
    [0.3, 64],
    [0.5, 256],
    [0.8, 64],
  ] as const) {
    const { a, b } = objective.at(t);
    const errors = Array.from({ length: 400 }, (_, i) => {
      const z = initialNoise(11n, i, n).map((eps) => a * constant + b * eps);
      return z.reduce((sum, value) => sum + value, 0) / (n * a) - constant;
    });
    const deviation = Math.sqrt(errors.reduce((sum, error) => sum + error * error, 0) / errors.length);
    expect(deviation / (t / ((1 - t) * Math.sqrt(n)))).toBeGreaterThan(0.9);
    expect(deviation / (t / ((1 - t) * Math.sqrt(n)))).toBeLessThan(1.1);
  }
  // So with alpha^2 times the pixels, the shift by alpha makes the deviation what it was.
  const shifted = objectiveNamed('rf', 2).shift(0.3);
  expect(shifted / ((1 - shifted) * Math.sqrt(4 * 64))).toBeCloseTo(0.3 / (0.7 * Math.sqrt(64)), 12);
});

test('where eps and x0 are wrong, they are wrong together: the squared error of eps is that of the output times a known number', () => {
  for (const name of PATHS) {
    const objective = objectiveNamed(name);
    const coefficients = objective.at(objective.level(0.6));
    const { a, b, p, q } = coefficients;
    const z = Float32Array.of(a * 0.5 + b * 0.8);
    const error = 0.01;
    const { eps } = denoise(coefficients, z, Float32Array.of(p * 0.5 + q * 0.8 + error));
    expect((eps[0]! - 0.8) ** 2 / error ** 2 / epsilonErrorPerError(coefficients)).toBeCloseTo(1, 3);
  }
});
