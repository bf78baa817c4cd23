import { describe, expect, test } from 'vitest';
import { SCHEDULE_KINDS, type ScheduleKind, schedule } from '../../../src/sampling/schedule.js';
import { PATHS, uniformObjective } from '../../support/formulations.js';

const times = (kind: ScheduleKind, steps: number, shift: number) =>
  schedule(kind, steps, uniformObjective(PATHS.rf, shift));

describe('schedule', () => {
  test('has equal steps without a shift', () => {
    expect(times('uniform', 4, 1)).toEqual([1, 0.75, 0.5, 0.25, 0]);
  });

  test('shifts every time by alpha t / (1 + (alpha - 1) t)', () => {
    const shifted = times('uniform', 4, 3);
    expect(shifted[0]).toBe(1);
    expect(shifted[1]).toBeCloseTo(2.25 / 2.5, 12);
    expect(shifted[3]).toBeCloseTo(0.75 / 1.5, 12);
    expect(shifted[4]).toBe(0);
  });

  test.each(SCHEDULE_KINDS)('descends strictly from 1 to 0 (%s)', (kind) => {
    for (const steps of [1, 2, 10, 50]) {
      const all = times(kind, steps, 3);
      expect(all).toHaveLength(steps + 1);
      expect(all[0]).toBe(1);
      expect(all.at(-1)).toBe(0);
      for (let i = 1; i < all.length; i++) expect(all[i]!).toBeLessThan(all[i - 1]!);
    }
  });

  test('shifts the smallest time twice as the reference does', () => {
    // The released code's last non-zero sigma at shift 3 and 10 steps.
    expect(times('reference', 10, 3)[9]).toBeCloseTo(0.0089286, 7);
    expect(times('uniform', 10, 3)[9]).toBeCloseTo(0.25, 12);
  });
});
