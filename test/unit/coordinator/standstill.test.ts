import { expect, test } from 'vitest';
import {
  describeStandstill,
  type Scheduled,
  StandstillWatch,
  scheduledOfMainThread,
} from '../../../src/coordinator/standstill.js';

/** A process that gets events four times a second, and then none for some seconds, in which this is scheduled. */
function afterSilence(seconds: number, { ran, waited }: Scheduled) {
  let scheduled: Scheduled | null = { ran: 70, waited: 5_000 };
  let now = 1_000_000;
  const watch = new StandstillWatch(now, () => scheduled);
  for (let tick = 0; tick < 20; tick++) {
    now += 250;
    // Half of the time before was waited for, too; that is no standstill.
    scheduled = { ran: scheduled.ran + 10, waited: scheduled.waited + 125 };
    expect(watch.event(now)).toBeNull();
  }
  scheduled = { ran: scheduled.ran + ran, waited: scheduled.waited + waited };
  const standstill = watch.event(now + 1000 * seconds);
  expect(watch.event(now + 1000 * seconds + 1)).toBeNull();
  return standstill;
}

test.each([
  [6, { ran: 3, waited: 20 }, 'suspended'],
  [6, { ran: 100, waited: 5_700 }, 'overloaded'],
  [6, { ran: 5_800, waited: 100 }, 'busy'],
  [6, { ran: 2_900, waited: 2_950 }, 'overloaded'],
  [6, { ran: 2_950, waited: 2_900 }, 'busy'],
  [600, { ran: 2, waited: 6_000 }, 'suspended'],
])('a standstill of %i s in which the scheduler counts %j: %s', (seconds, scheduled, cause) => {
  expect(afterSilence(seconds, scheduled)).toEqual({ seconds, cause });
});

test('a slow event is no standstill', () => {
  expect(afterSilence(4.9, { ran: 0, waited: 4_900 })).toBeNull();
});

test('where the scheduler does not say, nobody is accused', () => {
  const watch = new StandstillWatch(0, () => null);
  const standstill = watch.event(65_000)!;
  expect(standstill).toEqual({ seconds: 65, cause: 'unknown' });
  expect(describeStandstill(standstill)).toBe(
    'the run stood still for 1 min 5 s: it was suspended, or the machine is overloaded',
  );
});

// Some kernels do not count.
test.skipIf(scheduledOfMainThread() === null)('the scheduler counts what this thread computes', () => {
  const before = scheduledOfMainThread()!;
  const start = process.cpuUsage();
  let used = 0;
  while (used < 50_000) {
    const { user, system } = process.cpuUsage(start);
    used = user + system;
  }
  const after = scheduledOfMainThread()!;
  expect(after.waited).toBeGreaterThanOrEqual(before.waited);
  expect(after.ran - before.ran).toBeGreaterThan(0);
});
