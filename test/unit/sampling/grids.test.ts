import { describe, expect, test } from 'vitest';
import { GRID_KINDS, type GridKind } from '../../../src/objective/paths.js';
import { ALL, objectiveNamed } from '../../support/formulations.js';

const levels = (name: string, kind: GridKind, steps: number, shift = 1) =>
  objectiveNamed(name, shift).grid(kind, steps);

describe('the grids of sampling', () => {
  test('of rf has equal steps without a shift', () => {
    expect(levels('rf', 'uniform', 4)).toEqual([1, 0.75, 0.5, 0.25, 0]);
  });

  test('of rf is shifted by alpha t / (1 + (alpha - 1) t)', () => {
    const shifted = levels('rf', 'uniform', 4, 3);
    expect(shifted[0]).toBe(1);
    expect(shifted[1]).toBeCloseTo(2.25 / 2.5, 12);
    expect(shifted[3]).toBeCloseTo(0.75 / 1.5, 12);
    expect(shifted[4]).toBe(0);
  });

  test('of cos begins at 1 for v and at 0.999 for eps', () => {
    expect(levels('v/cos', 'uniform', 4)).toEqual([1, 0.75, 0.5, 0.25, 0]);
    const eps = levels('eps/cos', 'uniform', 2);
    expect([eps[0], eps[1], eps[2]]).toEqual([0.999, 0.4995, 0]);
    const { a, b } = objectiveNamed('eps/cos').formulation.path.at(0.999);
    expect(Math.round(b / a)).toBe(637);
  });

  test('of tables has indices from 999 to 0', () => {
    expect(levels('eps/linear', 'uniform', 4)).toEqual([999, 749, 499, 249, 0]);
    expect(levels('v/linear', 'reference', 4)).toEqual([999, 666, 333, 0, -1]);
    expect(() => levels('eps/linear', 'uniform', 1000)).toThrow(
      expect.objectContaining({ code: 'ERR_USAGE', message: expect.stringContaining('at most 999 steps') }),
    );
  });

  test("of EDM is Karras', with rho = 7, between the quantiles of the training law", () => {
    const own = levels('edm(0,0.6)', 'uniform', 5);
    expect(own[0]).toBeCloseTo(6.385, 2);
    expect(own[4]).toBeCloseTo(0.1566, 3);
    expect(own[5]).toBe(0);
    const root = (sigma: number) => sigma ** (1 / 7);
    expect(root(own[1]!) - root(own[0]!)).toBeCloseTo(root(own[4]!) - root(own[3]!), 10);
    expect(levels('edm/rf', 'uniform', 2)[0]).toBeCloseTo(999, 6);
    const karras = levels('edm(0,0.6)', 'karras', 3);
    expect([karras[0]!, karras[2]!].map((sigma) => sigma.toPrecision(6))).toEqual(['80.0000', '0.00200000']);
    expect(levels('edm(0,0.6)', 'uniform', 5, 3)[0]).toBeCloseTo(3 * own[0]!, 10);
  });

  test('karras is refused where there is no sigma', () => {
    for (const name of ['rf', 'v/cos', 'eps/linear']) {
      expect(() => levels(name, 'karras', 5)).toThrow(
        expect.objectContaining({ code: 'ERR_USAGE', message: expect.stringContaining('--schedule karras') }),
      );
    }
  });

  test.each(ALL)('of %s descend from noise to data', (name) => {
    for (const kind of GRID_KINDS.filter((kind) => kind !== 'karras' || name.startsWith('edm'))) {
      for (const steps of [1, 2, 10, 50]) {
        const objective = objectiveNamed(name, 1.6);
        const points = objective.grid(kind, steps).map((level) => objective.formulation.path.at(level));
        expect(points).toHaveLength(steps + 1);
        const sigmas = points.map(({ a, b }) => b / a);
        // Beyond the end of a table, levels are one after the shift.
        for (let i = 1; i <= steps; i++) {
          if (/linear|ddpm/.test(name)) expect(sigmas[i]!).toBeLessThanOrEqual(sigmas[i - 1]!);
          else expect(sigmas[i]!).toBeLessThan(sigmas[i - 1]!);
        }
        expect(sigmas[0]! > 5 || name.startsWith('edm')).toBe(true);
      }
    }
  });

  test('shifts the smallest time twice as the reference does', () => {
    // The released code's last non-zero sigma at shift 3 and 10 steps.
    expect(levels('rf', 'reference', 10, 3)[9]).toBeCloseTo(0.0089286, 7);
    expect(levels('rf', 'uniform', 10, 3)[9]).toBeCloseTo(0.25, 12);
  });
});
