import { describe, expect, test } from 'vitest';
import { integrateEuler } from '../../../src/sampling/euler.js';
import { guide } from '../../../src/sampling/guidance.js';
import { schedule } from '../../../src/sampling/schedule.js';

describe('integrateEuler', () => {
  test('is exact where the velocity is constant along a path: rectified flow to a single point', async () => {
    const data = Float32Array.of(2, -1, 0.5);
    const start = Float32Array.of(0.25, 1.5, -2);
    const velocity = async (z: Float32Array, t: number) => z.map((value, i) => (value - data[i]!) / t);
    for (const shift of [1, 3]) {
      const end = await integrateEuler(velocity, start, schedule('uniform', 7, shift));
      for (const [i, value] of end.entries()) expect(value).toBeCloseTo(data[i]!, 5);
    }
  });

  test('converges to the solution of dz/dt = z with an error of first order', async () => {
    const error = async (steps: number) => {
      const end = await integrateEuler(async (z) => z, Float32Array.of(1), schedule('uniform', steps, 1));
      return Math.abs(end[0]! - Math.exp(-1));
    };
    const [coarse, fine] = [await error(50), await error(100)];
    expect(coarse).toBeLessThan(0.01);
    expect(coarse / fine).toBeGreaterThan(1.95);
    expect(coarse / fine).toBeLessThan(2.05);
  });

  test('reports steps, asks for the right times and leaves its input alone', async () => {
    const start = Float32Array.of(1);
    const asked: number[] = [];
    const done: number[] = [];
    await integrateEuler(
      async (z, t) => {
        asked.push(t);
        return z;
      },
      start,
      Float64Array.of(1, 0.5, 0),
      (n) => done.push(n),
    );
    expect(asked).toEqual([1, 0.5]);
    expect(done).toEqual([1, 2]);
    expect([...start]).toEqual([1]);
  });
});

describe('guide', () => {
  test('is v_uncond + w (v_cond - v_uncond)', () => {
    const conditional = Float32Array.of(1, -2);
    const unconditional = Float32Array.of(3, 4);
    expect([...guide(conditional, unconditional, 2.5)]).toEqual([-2, -11]);
    expect([...guide(conditional, unconditional, 1)]).toEqual([1, -2]);
    expect([...guide(conditional, unconditional, 0)]).toEqual([3, 4]);
  });
});
