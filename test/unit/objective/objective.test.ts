/** Every formulation beside the closed forms of the SD3 paper (section 3 and appendix B). */
import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import {
  COEFFICIENTS,
  denoise,
  readCoefficient,
  writeCoefficients,
} from '../../../src/objective/coefficients.js';
import { nameWithDensity } from '../../../src/objective/names.js';
import { objectiveOf, storedObjective } from '../../../src/objective/objective.js';
import { ddpmTable, ldmTable } from '../../../src/objective/paths.js';
import { shownRow } from '../../../src/objective/shown.js';
import { drawUniforms, STREAM } from '../../../src/random/philox.js';
import { ALL, objectiveNamed, PATHS } from '../../support/formulations.js';

const TIMES = [0.001, 0.02, 0.1, 0.25, 0.5, 0.6, 0.77, 0.9, 0.98, 0.999];
const row = (name: string, t: number, shift = 1) => shownRow(objectiveNamed(name, shift), t);

function expectNear(value: number | null, expected: number, relative = 1e-9): void {
  expect(Math.abs(value! - expected)).toBeLessThanOrEqual(relative * Math.abs(expected) + 1e-15);
}

describe('training of rectified flow', () => {
  test('is the straight path with a velocity target and plain MSE at every t', () => {
    for (const t of [0, 1e-6, 0.123456, 0.5, 1 - 1e-6, 1]) {
      // Weighting the velocity loss by sigma^2 is a mistake of public trainers.
      expect(objectiveNamed('rf').at(t)).toEqual({
        a: 1 - t,
        b: t,
        p: -1,
        q: 1,
        weight: 1,
        timestep: 1000 * t,
      });
    }
  });

  test('has the bits that it had while the density was a key of its own', () => {
    const hash = createHash('sha256');
    for (const density of [
      'uniform',
      'lognorm(0, 1)',
      'lognorm(0.5,0.6)',
      'mode(1.29)',
      'mode(-1)',
      'cosmap',
    ]) {
      for (const shift of [1, 1.6, 3]) {
        const objective = objectiveNamed(nameWithDensity(density), shift);
        const out = new Float32Array(500 * COEFFICIENTS.length);
        for (let i = 0; i < 500; i++) {
          const [u1, u2] = drawUniforms({ seed: 5n, stream: STREAM.time, step: 2, sampleId: i });
          writeCoefficients(out, i, objective.at(objective.drawLevel(u1!, u2!)));
        }
        hash.update(out);
      }
    }
    expect(hash.digest('hex')).toBe('234b17baa3cc5a5a11bf1bf100b233aab6f748e5d82da48d2f5ff00edbd751a2');
  });

  test('draws t from the density and shifts it', () => {
    const objective = objectiveOf({ formulation: 'rf/mode(1.29)', shift: 3 });
    const t = objectiveNamed('rf/mode(1.29)').drawLevel(0.2, 0.7);
    expect(objective.drawLevel(0.2, 0.7)).toBe((3 * t) / (1 + 2 * t));
  });
});

test('a stored objective may have its density apart', () => {
  const now = { formulation: 'rf/mode(1.29)', shift: 3 };
  expect(storedObjective({ formulation: 'rf', density: 'mode(1.29)', shift: 3 })).toEqual(now);
  expect(storedObjective(now)).toEqual(now);
});

describe('the paths', () => {
  test.each(TIMES)('at t = %f', (t) => {
    const ratio = Math.tan((Math.PI / 2) * t);
    expectNear(row('rf', t).log_snr, 2 * Math.log((1 - t) / t));
    for (const name of ['eps/cos', 'v/cos', 'edm/cos'])
      expectNear(row(name, t).log_snr, -2 * Math.log(ratio));
    expectNear(row('edm/rf', t).log_snr, 2 * Math.log((1 - t) / t));
    for (const name of ['rf', 'v/cos', 'edm/rf', 'edm/cos', 'edm(-0.6,1.2)']) {
      const h = 1e-6 * Math.min(t, 1 - t);
      const slope = (row(name, t + h).log_snr! - row(name, t - h).log_snr!) / (2 * h);
      expectNear(row(name, t).log_snr_derivative, slope, 1e-5);
    }
  });

  test('of EDM has the quantiles of its law of sigma', () => {
    const sigma = (t: number) => row('edm(0,0.6)', t).b!;
    expectNear(sigma(0.5), 1);
    expectNear(sigma(0.001), 0.1566, 1e-3);
    expectNear(sigma(0.999), 6.385, 1e-3);
    const { a, input, target, timestep } = row('edm(-1.2,1.2)', 0.5);
    const s = Math.exp(-1.2);
    expect(a).toBe(1);
    expectNear(timestep, -300);
    expectNear(input.x0, 1 / Math.hypot(s, 0.5));
    expectNear(input.eps, s / Math.hypot(s, 0.5));
    expectNear(target.x0, (2 * s) / Math.hypot(s, 0.5));
    expectNear(target.eps, -0.5 / Math.hypot(s, 0.5));
  });

  test('of tables have their levels, and no derivative', () => {
    const last = row('eps/linear', 1);
    expect(last).toMatchObject({ t: 0.9995, timestep: 999, log_snr_derivative: null, w: null });
    expectNear(last.a, 0.0683, 1e-2);
    expectNear(ldmTable.at(0).a, Math.sqrt(1 - 0.00085));
    expectNear(ddpmTable.at(999).a, 0.00635, 1e-2);
    expect(row('v/linear', 0.1234)).toMatchObject({ t: 0.1235, timestep: 123 });
    for (const i of [0, 17, 500, 999]) {
      const { a, b } = ldmTable.at(i);
      expect(ldmTable.ofSigma(b / a)).toBe(i);
      expectNear(a * a + b * b, 1);
    }
    expect(ldmTable.ofSigma(1e9)).toBe(999);
    expect(ldmTable.ofSigma(0)).toBe(0);
    const between = Math.sqrt(
      (ldmTable.at(40).b / ldmTable.at(40).a) * (ldmTable.at(41).b / ldmTable.at(41).a),
    );
    expect([0.9999, 1.0001].map((factor) => ldmTable.ofSigma(factor * between))).toEqual([40, 41]);
  });
});

describe("the paper's weightings", () => {
  const sech = (x: number) => 1 / Math.cosh(x);
  test.each(TIMES)('w at t = %f', (t) => {
    const { w, log_snr: lambda } = row('rf', t);
    expectNear(w, t / (1 - t));
    expectNear(w, Math.exp(-lambda! / 2));
    for (const name of ['rf/lognorm(0,1)', 'rf/mode(1.29)', 'rf/mode(-1)', 'rf/cosmap']) {
      expectNear(row(name, t).w, row(name, t).density! * (t / (1 - t)));
    }
    expectNear(row('eps/cos', t).w, sech(row('eps/cos', t).log_snr! / 2));
    expectNear(row('v/cos', t).w, Math.exp(-row('v/cos', t).log_snr! / 2));
    for (const [mean, deviation] of [
      [0, 0.6],
      [-1.2, 1.2],
      [1.2, 1.8],
    ] as const) {
      const edm = row(`edm(${mean},${deviation})`, t);
      const [m, s] = [-2 * mean, 2 * deviation];
      const normal = Math.exp(-0.5 * ((edm.log_snr! - m) / s) ** 2) / (s * Math.sqrt(2 * Math.PI));
      expectNear(edm.w, normal * (Math.exp(-edm.log_snr!) + 0.5 ** 2));
    }
  });

  test('edm/rf and edm/cos have the weighting of rf and v/cos if matched, and another by default', () => {
    // As functions of the log-SNR, from which t follows.
    for (const t of TIMES) {
      const sigma = t / (1 - t);
      const cosineTime = (2 / Math.PI) * Math.atan(sigma);
      const weighting = row('rf', t).w!;
      expectNear(row('edm/rf(matched)', t).w, weighting);
      expectNear(row('v/cos', cosineTime).w, weighting);
      expectNear(row('edm/cos(matched)', cosineTime).w, weighting);
    }
    const ratio = (name: string, t: number) => row(name, t).w! / row('rf', t).w!;
    expect(ratio('edm/rf', 0.1) / ratio('edm/rf', 0.5)).toBeLessThan(0.7);
    expect(row('edm/rf', 0.3).loss_weight).toBe(1);
  });

  test.each(ALL)('%s: the effective weight and w are one loss', (name) => {
    const constants = new Set<string>();
    for (const t of TIMES) {
      const shown = row(name, t);
      const { a, b, target, density, loss_weight } = shown;
      const ofNoise = (a! * target.eps! - b! * target.x0!) / a!;
      expectNear(shown.effective_weight, density! * loss_weight! * ofNoise ** 2, 1e-6);
      // The narrowest densities are below the smallest number at some t.
      if (shown.w === null || shown.w === 0) continue;
      constants.add(((shown.w * -shown.log_snr_derivative!) / (2 * shown.effective_weight!)).toPrecision(7));
    }
    expect(constants.size).toBe(/linear|ddpm/.test(name) ? 0 : 1);
  });

  test('what is infinite at the ends is null', () => {
    expect(row('rf', 0)).toMatchObject({ log_snr: null, log_snr_derivative: null, effective_weight: 1 });
    expect(row('rf', 1)).toMatchObject({ a: 0, b: 1, log_snr: null, effective_weight: null });
    expect(row('edm(0,1)', 1)).toMatchObject({ a: 1, b: null, timestep: null });
    expect(row('rf/mode(-1)', 0).density).toBeNull();
  });
});

describe('the resolution shift', () => {
  test('moves the log-SNR by -2 log alpha on every path, and keeps w as a loss', () => {
    for (const name of ['rf', 'rf/lognorm(0.5,0.6)', 'v/cos', 'eps/cos', 'edm(0,0.6)', 'edm/rf', 'edm/cos']) {
      for (const alpha of [0.5, 1, 3]) {
        for (const t of [0.01, 0.3, 0.5, 0.999]) {
          expectNear(row(name, t, alpha).log_snr! + 2 * Math.log(alpha) + 100, row(name, t).log_snr! + 100);
          expectNear(row(name, t, alpha).log_snr_derivative, row(name, t).log_snr_derivative!);
        }
      }
    }
  });

  test('on the straight path keeps the ends, and is exact', () => {
    const shift = (t: number) => objectiveNamed('rf', 3).shift(t);
    expect([0, 0.5, 1].map(shift)).toEqual([0, 0.75, 1]);
  });

  test('of lognorm(m, s) is lognorm(m + ln alpha, s)', () => {
    const shifted = objectiveNamed('rf/lognorm(0.25,0.6)', 3);
    const moved = objectiveNamed(`rf/lognorm(${0.25 + Math.log(3)},0.6)`);
    for (const u of [0.01, 0.4, 0.9])
      expect(shifted.drawLevel(u, 0.3)).toBeCloseTo(moved.drawLevel(u, 0.3), 12);
    const edm = objectiveNamed('edm(0.25,0.6)', 3);
    expectNear(edm.drawLevel(0.2, 0.3), objectiveNamed(`edm(${0.25 + Math.log(3)},0.6)`).drawLevel(0.2, 0.3));
  });

  test('in a table takes the level whose log-SNR is nearest, and the last one beyond', () => {
    const plain = row('eps/linear', 0.3);
    const shifted = row('eps/linear', 0.3, 3);
    expect(Math.abs(shifted.log_snr! - (plain.log_snr! - 2 * Math.log(3)))).toBeLessThan(0.01);
    expect(row('eps/linear', 0.9, 3).timestep).toBe(999);
    expect(row('eps/linear', 0.3, 1)).toEqual(plain);
  });
});

describe('coefficients', () => {
  test('are written in the order that the engine reads', () => {
    const out = new Float32Array(2 * COEFFICIENTS.length);
    writeCoefficients(out, 1, { a: 1, b: 2, p: 3, q: 4, weight: 5, timestep: 6 });
    expect([...out]).toEqual([0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6]);
    expect(COEFFICIENTS.map((name) => readCoefficient(out, 1, name))).toEqual([1, 2, 3, 4, 5, 6]);
  });

  test.each(PATHS)('of %s: data and noise are found from input and target', (name) => {
    const [data, noise] = [1.25, -0.5];
    const objective = objectiveNamed(name);
    for (const t of [0.01, 0.3, 0.97]) {
      const coefficients = objective.at(objective.level(t));
      const { a, b, p, q } = coefficients;
      const z = Float32Array.of(0, a * data + b * noise);
      const { x0, eps } = denoise(coefficients, z, Float32Array.of(0, p * data + q * noise));
      expect([x0[0], eps[0]].map(Math.abs as never)).toEqual([0, 0]);
      expect(x0[1]).toBeCloseTo(data, 4);
      expect(eps[1]).toBeCloseTo(noise, 4);
    }
  });
});
