import { describe, expect, test } from 'vitest';
import { densityOf } from '../../../src/objective/density.js';
import {
  COEFFICIENTS,
  denoise,
  FORMULATIONS,
  readCoefficient,
  writeCoefficients,
} from '../../../src/objective/formulations.js';
import { objectiveOf } from '../../../src/objective/objective.js';
import { PATHS, uniformObjective } from '../../support/formulations.js';

describe('objectiveOf', () => {
  test('draws t from the density and shifts it', () => {
    const objective = objectiveOf({ formulation: 'rf', density: 'mode(1.29)', shift: 3 });
    const t = densityOf('mode(1.29)')(0.2, 0.7);
    expect(objective.drawTime(0.2, 0.7)).toBe((3 * t) / (1 + 2 * t));
    expect(objective.at(0.25)).toEqual(FORMULATIONS.rf(0.25));
  });

  test('refuses what it does not know', () => {
    const config = { formulation: 'rf', density: 'uniform', shift: 1 } as const;
    expect(() => objectiveOf({ ...config, formulation: 'toString' as 'rf' })).toThrow(
      expect.objectContaining({
        code: 'ERR_CONFIG',
        message: 'objective.formulation: expected one of rf, received "toString"',
      }),
    );
    expect(() => objectiveOf({ ...config, density: 'normal' })).toThrow(
      expect.objectContaining({ code: 'ERR_CONFIG' }),
    );
  });
});

describe('the resolution shift', () => {
  test('moves the log-SNR by -2 log alpha, and keeps the ends', () => {
    const lambda = (t: number) => 2 * Math.log((1 - t) / t);
    for (const alpha of [0.5, 1, 3]) {
      const shift = (t: number) => uniformObjective(FORMULATIONS.rf, alpha).shift(t);
      expect(shift(0)).toBe(0);
      expect(shift(1)).toBe(1);
      for (const t of [0.01, 0.3, 0.5, 0.999]) {
        expect(lambda(shift(t))).toBeCloseTo(lambda(t) - 2 * Math.log(alpha), 9);
      }
    }
    expect(uniformObjective(FORMULATIONS.rf, 3).shift(0.5)).toBe(0.75);
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

describe('coefficients', () => {
  test('are written in the order that the engine reads', () => {
    const out = new Float32Array(2 * COEFFICIENTS.length);
    writeCoefficients(out, 1, { a: 1, b: 2, p: 3, q: 4, weight: 5, timestep: 6 });
    expect([...out]).toEqual([0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6]);
    expect(COEFFICIENTS.map((name) => readCoefficient(out, 1, name))).toEqual([1, 2, 3, 4, 5, 6]);
  });
});

describe('denoise', () => {
  test.each(Object.entries(PATHS))('finds data and noise from input and target of %s', (_, formulation) => {
    const [data, noise] = [1.25, -0.5];
    for (const t of [0.001, 0.3, 0.999, 1]) {
      const coefficients = formulation(t);
      const { a, b, p, q } = coefficients;
      const z = Float32Array.of(0, a * data + b * noise);
      const { x0, eps } = denoise(coefficients, z, Float32Array.of(0, p * data + q * noise));
      expect([x0[0], eps[0]].map(Math.abs as never)).toEqual([0, 0]);
      expect(x0[1]).toBeCloseTo(data, 4);
      expect(eps[1]).toBeCloseTo(noise, 4);
    }
  });
});
