import { describe, expect, test } from 'vitest';
import { Pace, type PaceOptions } from '../../../src/coordinator/pace.js';
import { generator } from '../../support/random.js';

/**
 * Milliseconds of steps 101 to 160 of a run of test/integration/training.yaml (batch.global 32) on two cores at a
 * load of 14 (2026-11-26): they vary by 44 %.
 */
const ON_BUSY_MACHINE = [
  ...[1097, 623, 543, 375, 588, 571, 364, 242, 253, 245, 286, 339, 349, 242, 399, 500, 460, 307, 391, 332],
  ...[291, 202, 203, 356, 352, 215, 218, 240, 240, 239, 251, 218, 233, 213, 284, 201, 314, 488, 291, 311],
  ...[223, 257, 281, 315, 305, 264, 199, 223, 298, 219, 432, 421, 371, 255, 358, 288, 233, 390, 295, 249],
];

const plain: PaceOptions = {
  firstStep: 1,
  steps: 2600,
  attentionEvery: 0,
  validateEvery: 0,
  validationPasses: 0,
  checkpointEvery: 0,
  checkpointBytes: 0,
};

/** Adds steps and returns what was forecast, by step. */
function run(pace: Pace, from: number, to: number, seconds: (step: number) => number): Map<number, string> {
  const told = new Map<number, string>();
  for (let step = from; step <= to; step++) {
    pace.add(step, seconds(step));
    const line = pace.forecast();
    if (line !== null) told.set(step, line);
  }
  return told;
}

describe('the forecast of a run', () => {
  test('comes once, after three seconds of timed steps, and passes over the slow first ones', () => {
    const told = run(new Pace(plain), 1, 200, (step) => (step <= 2 ? 2 : 0.058));
    expect([...told]).toEqual([[54, 'Training will take about 2 min 31 s: 2600 steps of 58 ms']]);
  });

  test('is the mean, which slow steps in between belong to', () => {
    const told = run(new Pace(plain), 1, 200, (step) => (step % 2 === 0 ? 0.08 : 0.04));
    expect([...told.values()]).toEqual(['Training will take about 2 min 36 s: 2600 steps of 60 ms']);
  });

  test('counts the remaining steps and validations of a resumed run', () => {
    const pace = new Pace({ ...plain, firstStep: 1301, validateEvery: 650, validationPasses: 30 });
    const told = run(pace, 1301, 1400, () => 0.1);
    expect([...told.values()]).toEqual([
      'The rest of the training will take about 2 min 11 s: 1300 steps of 100 ms and 2 validations',
    ]);
  });

  test('waits for three steps where they are slow, and comes early in a short run', () => {
    expect([...run(new Pace(plain), 1, 9, () => 60).keys()]).toEqual([5]);
    expect([...run(new Pace({ ...plain, steps: 100 }), 1, 100, () => 0.001).keys()]).toEqual([7]);
    expect([...run(new Pace({ ...plain, steps: 4 }), 1, 4, () => 1)]).toEqual([]);
  });

  test('counts one validation after the last step, where that is not due anyway', () => {
    const at = (steps: number) =>
      [
        ...run(new Pace({ ...plain, steps, validateEvery: 10, validationPasses: 3 }), 1, 9, () => 1).values(),
      ][0];
    expect(at(30)).toMatch(/30 steps of 1.0 s and 3 validations$/);
    expect(at(31)).toMatch(/31 steps of 1.0 s and 4 validations$/);
    expect(at(9)).toMatch(/9 steps of 1.0 s and 1 validation$/);
  });
});

describe('the remaining time', () => {
  test('is unknown before a step was timed', () => {
    const pace = new Pace(plain);
    run(pace, 1, 2, () => 1);
    expect(pace.remaining(2)).toBeNull();
    pace.add(3, 0.5);
    expect(pace.remaining(3)?.seconds).toBeCloseTo(0.5 * 2597, 6);
  });

  test('takes the time of a validation from the last one, before the first from an estimate', () => {
    const pace = new Pace({ ...plain, steps: 100, validateEvery: 10, validationPasses: 15 });
    run(pace, 1, 10, () => 1);
    // Ten validations are ahead, one of them of step 10.
    expect(pace.remaining(10)?.seconds).toBeCloseTo(90 + 10 * 15 * 0.28 * 0.85, 6);
    pace.validated(2);
    pace.add(11, 1);
    expect(pace.remaining(11)?.seconds).toBeCloseTo(89 + 9 * 2, 6);
  });

  test.each([1, 3, 7, 200])(
    'counts steps with sampled attention, every %i, by their own time',
    (attentionEvery) => {
      const steps = 1000;
      const pace = new Pace({ ...plain, steps, attentionEvery });
      run(pace, 1, 20, (step) => (step % attentionEvery === 0 ? 1.8 : 1));
      const sampled =
        attentionEvery > 20 ? 0 : Math.floor(steps / attentionEvery) - Math.floor(20 / attentionEvery);
      expect(pace.remaining(20)?.seconds).toBeCloseTo(980 + 0.8 * sampled, 6);
    },
  );

  test('the first sampled step, if it was disturbed, does not count for all later ones', () => {
    const pace = new Pace({ ...plain, steps: 1000, attentionEvery: 10 });
    run(pace, 1, 10, (step) => (step === 10 ? 60 : 1));
    expect(pace.remaining(10)?.seconds).toBeCloseTo(891 + 2 * 99, 6);
  });

  test('is rough while much of it was not measured, or the steps vary much', () => {
    const pace = new Pace({ ...plain, steps: 1000, validateEvery: 100, validationPasses: 110 });
    run(pace, 1, 20, () => 1);
    expect(pace.remaining(20)).toMatchObject({ isRough: true });
    pace.validated(30);
    expect(pace.remaining(20)).toMatchObject({ isRough: false });
    run(pace, 21, 30, (step) => (step % 2 === 0 ? 0.2 : 1.9));
    expect(pace.remaining(30)).toMatchObject({ isRough: true });
    const few = new Pace({ ...plain, steps: 1000, validateEvery: 1000, validationPasses: 90 });
    run(few, 1, 20, () => 1);
    expect(few.remaining(20)).toMatchObject({ isRough: false });
  });

  test.each([0.1, 1, 10])(
    'follows another pace that stays, of steps of %d s, and hardly one that lasts for seconds',
    (usual) => {
      const pace = new Pace({ ...plain, steps: 10_000 });
      const pacesAfter = (step: number) => pace.remaining(step)!.seconds / (10_000 - step) / usual;
      run(pace, 1, 2000, () => usual);
      const brief = Math.ceil(3 / usual);
      run(pace, 2001, 2000 + brief, () => 2 * usual);
      expect(pacesAfter(2000 + brief)).toBeLessThan(1.1);
      // Four minutes, or 200 steps where they take longer.
      const long = Math.max(200, Math.ceil(240 / (2 * usual)));
      run(pace, 2001 + brief, 2000 + brief + long, () => 2 * usual);
      expect(pacesAfter(2000 + brief + long)).toBeGreaterThan(1.95);
      expect(pacesAfter(2000 + brief + long)).toBeLessThan(2);
    },
  );

  test('does not change because the first steps, of which some were slow, are no more the newest', () => {
    const pace = new Pace(plain);
    run(pace, 1, 50, (step) => (step === 3 ? 1 : 0.1));
    for (let step = 51; step <= 200; step++) {
      pace.add(step, 0.1);
      expect(pace.remaining(step)!.seconds / (0.1 * (2600 - step)), `step ${step}`).toBeLessThan(1.005);
    }
  });

  test('goes by many steps while they vary about the same pace', () => {
    const random = generator(5);
    const seconds = Array.from(
      { length: 2600 },
      () => ON_BUSY_MACHINE[Math.floor(random() * ON_BUSY_MACHINE.length)]! / 1000,
    );
    const pace = new Pace(plain);
    let left = seconds.reduce((sum, each) => sum + each, 0);
    const wrong: number[] = [];
    for (const [i, each] of seconds.entries()) {
      left -= each;
      pace.add(i + 1, each);
      if (i >= 400 && i < 2300) wrong.push(Math.abs(pace.remaining(i + 1)!.seconds / left - 1));
    }
    expect(Math.max(...wrong)).toBeLessThan(0.1);
  });

  test.each<[string, (step: number) => number, boolean]>([
    ['became slower ten steps before', (step) => (step <= 140 ? 0.2 : 0.3), true],
    ['became slower thirty steps before', (step) => (step <= 120 ? 0.2 : 0.3), true],
    ['became slower long before', (step) => (step <= 20 ? 0.2 : 0.3), false],
    ['is the same, of steps that differ', (step) => 0.2 + 0.04 * Math.sin(7 * step), false],
  ])('is rough where the newest steps are not of one pace: it %s', (_, seconds, isRough) => {
    const pace = new Pace({ ...plain, steps: 1000 });
    run(pace, 1, 150, seconds);
    expect(pace.remaining(150)).toMatchObject({ isRough });
  });

  test('is rough until ten steps were timed', () => {
    const pace = new Pace(plain);
    run(pace, 1, 11, () => 1);
    expect(pace.remaining(11)).toMatchObject({ isRough: true });
    pace.add(12, 1);
    expect(pace.remaining(12)).toMatchObject({ isRough: false });
  });

  test('a step that stood still is not expected again', () => {
    const pace = new Pace(plain);
    run(pace, 1, 10, (step) => (step === 6 ? 60 : 1));
    expect(pace.remaining(10)!.seconds / 2590).toBeLessThan(1.4);
    run(pace, 11, 40, () => 1);
    expect(pace.remaining(40)!.seconds / 2560).toBeLessThan(1.1);
  });

  test('a few steps that stood still at the beginning do not matter', () => {
    const pace = new Pace(plain);
    run(pace, 1, 10, (step) => (step === 4 || step === 8 ? 3 : 1));
    expect(pace.remaining(10)!.seconds / 2590).toBeLessThan(1.1);
  });

  test('takes the mean of the validations, which vary', () => {
    const pace = new Pace({ ...plain, steps: 100, validateEvery: 10, validationPasses: 15 });
    run(pace, 1, 20, () => 1);
    for (const seconds of [16, 11, 18]) pace.validated(seconds);
    pace.add(31, 1);
    expect(pace.remaining(31)?.seconds).toBeCloseTo(69 + 7 * 15, 6);
  });

  test('times steps that are each followed by a validation, too', () => {
    const pace = new Pace({ ...plain, steps: 10, validateEvery: 1, validationPasses: 15 });
    run(pace, 1, 5, () => 2);
    expect(pace.remaining(5)?.seconds).toBeCloseTo(5 * 2 + 6 * 2 * 15 * 0.28 * 0.85, 6);
  });

  test('counts what checkpoints cost, apart from the pace of the other steps', () => {
    const pace = new Pace({ ...plain, steps: 1000, checkpointEvery: 100, checkpointBytes: 2.5e9 });
    const usual = () => 1;
    run(pace, 1, 100, usual);
    // Before the first checkpoint, all are estimated by their size: ten seconds, by half of which steps are longer.
    expect(pace.remaining(100)?.seconds).toBeCloseTo(900 + 8 * 5 + 10, 6);
    // While a checkpoint is written, four steps take twice as long.
    run(pace, 101, 104, () => 2);
    expect(pace.remaining(104)?.seconds).toBeCloseTo(896 + 8 * 5 + 10, 6);
    pace.saved(8);
    run(pace, 105, 150, usual);
    // Eight more, each with four seconds more, and then the last, which is waited for.
    expect(pace.remaining(150)?.seconds).toBeCloseTo(850 + 8 * 4 + 8, 6);
  });

  test('of steps that are all beside the writing of a checkpoint, the mean counts', () => {
    const pace = new Pace({ ...plain, steps: 100, checkpointEvery: 1 });
    for (let step = 1; step <= 10; step++) {
      pace.add(step, step % 2 === 0 ? 3 : 1);
      pace.saved(0.5);
    }
    expect(pace.remaining(10)?.seconds).toBeCloseTo(90 * 2 + 0.5, 6);
  });

  test.each([0, 7, 50])(
    'is right within a tenth from the tenth step on, checkpoints every %i steps',
    (every) => {
      const steps = 200;
      const validateEvery = 20;
      const pace = new Pace({
        ...plain,
        ...{ steps, validateEvery, validationPasses: 9, checkpointEvery: every, checkpointBytes: 950e6 },
      });
      // A validation of nine times the forward passes of a step, which keep nothing for a backward pass; steps vary, and are slower beside a checkpoint.
      const secondsOf = (step: number) => (step <= 2 ? 4 : 1 + 0.2 * ((step * 7) % 5) - 0.4);
      const forecasts: { at: number; remaining: number }[] = [];
      let clock = 0;
      let writing = 0;
      for (let step = 1; step <= steps; step++) {
        const seconds = secondsOf(step) + (writing > 0 ? 0.5 : 0);
        clock += seconds;
        pace.add(step, seconds, 0.3);
        if (step >= 10) forecasts.push({ at: clock, remaining: pace.remaining(step)!.seconds });
        if (step % validateEvery === 0) {
          clock += 2.3;
          pace.validated(2.3);
        }
        if (writing > 0 && --writing === 0) pace.saved(3.8);
        if (every > 0 && step % every === 0 && step < steps) writing = 3;
      }
      clock += 3.8;
      const wrong = forecasts.map(({ at, remaining }) => Math.abs(at + remaining - clock) / (clock - at));
      expect(Math.max(...wrong.slice(0, -5))).toBeLessThan(0.1);
    },
  );

  test.each([
    { validateEvery: 100, checkpointEvery: 100, attentionEvery: 10 },
    { validateEvery: 25, checkpointEvery: 200, attentionEvery: 3 },
    { validateEvery: 400, checkpointEvery: 0, attentionEvery: 0 },
  ])('is right within a tenth at every step from the tenth on: %o', (intervals) => {
    const { validateEvery, checkpointEvery, attentionEvery } = intervals;
    const steps = 400;
    for (let seed = 1; seed <= 10; seed++) {
      const random = generator(seed);
      /** The sum of four has nearly a normal distribution, here with a deviation of 5 %. */
      const noise = () => 1 + 0.0866 * (random() + random() + random() + random() - 2);
      const pace = new Pace({
        ...{ firstStep: 1, steps, attentionEvery, validateEvery, checkpointEvery },
        ...{ validationPasses: 36, checkpointBytes: 950e6 },
      });
      const forecasts: { at: number; remaining: number }[] = [];
      let clock = 0;
      let writing = 0;
      for (let step = 1; step <= steps; step++) {
        // The first two steps compile code and touch memory.
        const slow = step <= 2 ? 4 : 1;
        const sampled = attentionEvery > 0 && step % attentionEvery === 0 ? 0.15 : 0;
        const seconds = slow * noise() + sampled + (writing > 0 ? 0.5 : 0);
        clock += seconds;
        pace.add(step, seconds, 0.3 * noise());
        forecasts.push({ at: clock, remaining: pace.remaining(step)?.seconds ?? Number.NaN });
        if (step % validateEvery === 0) {
          // Forward passes for validation keep nothing for a backward pass, so they are somewhat faster.
          const validation = 0.95 * 36 * 0.3;
          clock += validation;
          pace.validated(validation);
        }
        if (writing > 0 && --writing === 0) pace.saved(3.8);
        if (checkpointEvery > 0 && step % checkpointEvery === 0 && step < steps) writing = 3;
      }
      clock += 3.8;
      const wrong = forecasts
        .slice(9)
        .map(({ at, remaining }) => Math.abs(at + remaining - clock) / (clock - at));
      expect(Math.max(...wrong), `seed ${seed}`).toBeLessThan(0.1);
    }
  });
});
