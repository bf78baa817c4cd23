import { describe, expect, test } from 'vitest';
import { RECOVERY_STEPS, STRAGGLER_STEPS, Stragglers } from '../../../src/coordinator/stragglers.js';
import { worker } from '../../support/records.js';

/** Workers of two slots each that take so many seconds. */
const taking = (...seconds: number[]) =>
  seconds.map((accumulate_seconds, rank) => ({
    ...worker,
    ...{ rank, pid: 100 + rank, firstSlot: 2 * rank, endSlot: 2 * rank + 2 },
    numbers: { ...worker.numbers, accumulate_seconds },
  }));

/** Numbers from 0 to 1 that look like random ones, the same in every run. */
let state = 1;
const noise = () => {
  state = (state * 48_271) % 2_147_483_647;
  return state / 2_147_483_647;
};

/** What is told in so many steps. */
function told(stragglers: Stragglers, steps: number, ...seconds: number[]): string[] {
  return Array.from({ length: steps }, () => stragglers.step(taking(...seconds))).flatMap((notes) =>
    notes.map(({ level, message }) => `${level} ${message}`),
  );
}

describe('a straggler', () => {
  test('is named once, in as many steps as it takes, and again when it is not one any more', () => {
    const stragglers = new Stragglers();
    expect(told(stragglers, STRAGGLER_STEPS - 1, 1, 2.1, 1)).toEqual([]);
    expect(stragglers.all).toEqual([]);
    expect(told(stragglers, 30, 1, 2.1, 1)).toEqual([
      'warn rank 1 (pid 101 on a) takes 2.1 times as long for a slot as the median worker, in the last 20 steps; all others wait for it: look at its machine',
    ]);
    expect(stragglers.all).toEqual([{ rank: 1, host: 'a', times: expect.closeTo(2.1, 9) }]);
    // 75 of the last 100 steps are most of them; that it is slow is true of fewer.
    expect(told(stragglers, STRAGGLER_STEPS / 2, 1, 1, 1)).toEqual([]);
    expect(stragglers.all).toEqual([{ rank: 1, host: 'a', times: expect.closeTo(1.55, 9) }]);
    expect(told(stragglers, STRAGGLER_STEPS / 2, 1, 1, 1)).toEqual([]);
    expect(stragglers.all).toEqual([]);
    expect(told(stragglers, 54, 1, 1, 1)).toEqual([]);
    expect(told(stragglers, 30, 1, 1, 1)).toEqual([
      'info rank 1 (pid 101 on a) is as fast as the other workers again',
    ]);
    expect(stragglers.all).toEqual([]);
  });

  test.each([
    ['near the limit', () => 1.3 + 0.4 * noise()],
    ['that comes and goes', (step: number) => (step % 80 < 40 ? 2 : 1)],
  ])('is told of once, and its end once, with a slowness %s', (_, slownessIn) => {
    const stragglers = new Stragglers();
    const during = Array.from({ length: 2_000 }, (_, step) => told(stragglers, 1, 1, slownessIn(step), 1));
    expect(during.flat()).toEqual([expect.stringMatching(/^warn rank 1 .* times as long/)]);
    const after = told(stragglers, 2 * RECOVERY_STEPS, 1, 1.1, 1);
    expect(after).toEqual([expect.stringMatching(/^info rank 1 .* as fast as the other workers again$/)]);
  });

  test('is not who is slow now and then, who has more slots, or all', () => {
    const stragglers = new Stragglers();
    for (let i = 0; i < 50; i++) {
      expect(told(stragglers, 2, 1, 4, 1)).toEqual([]);
      expect(told(stragglers, 1, 1, 1.4, 1)).toEqual([]);
    }
    expect(told(stragglers, 50, 9, 9, 9)).toEqual([]);
    const uneven = taking(1, 3).map((one, rank) => ({ ...one, endSlot: rank === 0 ? 2 : 8 }));
    for (let i = 0; i < 50; i++) expect(stragglers.step(uneven)).toEqual([]);
    expect(told(stragglers, 50, 1)).toEqual([]);
  });

  test('of two is the slower; another process in its place begins as new', () => {
    const stragglers = new Stragglers();
    expect(told(stragglers, STRAGGLER_STEPS, 3, 1)).toHaveLength(1);
    for (const change of [{ pid: 110 }, { pid: 110, host: 'b' }]) {
      const others = taking(3, 1).map((one) => ({ ...one, ...change }));
      expect(stragglers.step(others)).toEqual([]);
      expect(stragglers.all).toEqual([]);
      for (let i = 1; i < STRAGGLER_STEPS; i++) stragglers.step(others);
      expect(stragglers.all).toHaveLength(1);
    }
  });
});
