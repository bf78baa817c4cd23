import { setImmediate } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { remainingSeconds, runJobs } from '../../../src/study/schedule.js';

/** Jobs that end when they are told to. */
function jobs(count: number) {
  const started: { job: number; threads: number }[] = [];
  const ends: (() => void)[] = [];
  const list = Array.from({ length: count }, (_, job) => ({
    run: (threads: number) => {
      started.push({ job, threads });
      return new Promise<void>((resolve) => {
        ends[job] = resolve;
      });
    },
  }));
  const end = async (job: number) => {
    ends[job]!();
    for (let i = 0; i < 5; i++) await setImmediate();
  };
  return { list, started, end };
}

describe('jobs', () => {
  test('run one to a core while many wait, and the last share what is free', async () => {
    const { list, started, end } = jobs(6);
    const all = runJobs(list, { cores: 4, least: 1, most: null }, () => false);
    await setImmediate();
    expect(started).toEqual([0, 1, 2, 3].map((job) => ({ job, threads: 1 })));
    await end(2);
    expect(started.slice(4)).toEqual([{ job: 4, threads: 1 }]);
    await end(0);
    expect(started.slice(5)).toEqual([{ job: 5, threads: 1 }]);
    for (const job of [1, 3, 4, 5]) await end(job);
    await all;
  });

  test.each([
    [1, 4, 1, null, [4]],
    [2, 5, 1, null, [2, 3]],
    [3, 8, 2, null, [2, 3, 3]],
    [2, 1, 2, null, [2]],
    [5, 4, 1, 2, [2, 2]],
    [3, 4, 1, 1, [4]],
  ])(
    '%d jobs on %d cores, at least %d threads, at most %s jobs: %j',
    async (count, cores, least, most, threads) => {
      const { list, started, end } = jobs(count);
      const all = runJobs(list, { cores, least, most }, () => false);
      await setImmediate();
      expect(started.map((one) => one.threads)).toEqual(threads);
      for (let job = 0; job < count; job++) await end(job);
      await all;
      expect(started.map(({ job }) => job)).toEqual(list.map((_, job) => job));
    },
  );

  test('none is started after the stop, and those that run are waited for', async () => {
    const { list, started, end } = jobs(3);
    let stopped = false;
    let over = false;
    const all = runJobs(list, { cores: 1, least: 1, most: null }, () => stopped).then(() => {
      over = true;
    });
    await setImmediate();
    stopped = true;
    expect([started.length, over]).toEqual([1, false]);
    await end(0);
    await all;
    expect(started).toHaveLength(1);
  });
});

test('the remaining time is that of the work since the start', () => {
  expect(remainingSeconds(10, 3, 3, 10)).toBeNull();
  expect(remainingSeconds(10, 3, 5, 10)).toBe(25);
});
