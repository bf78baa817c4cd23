import { describe, expect, test } from 'vitest';
import { schedule } from '../../../src/sampling/schedule.js';

describe('schedule', () => {
  test('has equal steps without a shift', () => {
    expect([...schedule('uniform', 4, 1)]).toEqual([1, 0.75, 0.5, 0.25, 0]);
  });

  test('shifts every time by alpha t / (1 + (alpha - 1) t)', () => {
    const times = schedule('uniform', 4, 3);
    expect(times[0]).toBe(1);
    expect(times[1]).toBeCloseTo(2.25 / 2.5, 12);
    expect(times[3]).toBeCloseTo(0.75 / 1.5, 12);
    expect(times[4]).toBe(0);
  });

  test.each(['uniform', 'reference'] as const)('descends strictly from 1 to 0 (%s)', (kind) => {
    for (const steps of [1, 2, 10, 50]) {
      const times = [...schedule(kind, steps, 3)];
      expect(times).toHaveLength(steps + 1);
      expect(times[0]).toBe(1);
      expect(times.at(-1)).toBe(0);
      for (let i = 1; i < times.length; i++) expect(times[i]!).toBeLessThan(times[i - 1]!);
    }
  });

  test('shifts the smallest time twice as the reference does', () => {
    // The released code's last non-zero sigma at shift 3 and 10 steps.
    expect(schedule('reference', 10, 3)[9]).toBeCloseTo(0.0089286, 7);
    expect(schedule('uniform', 10, 3)[9]).toBeCloseTo(0.25, 12);
  });
});
