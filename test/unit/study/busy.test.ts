import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { childSeconds } from '../../../src/study/busy.js';

test('the processor time of children grows by what they use', () => {
  const before = childSeconds()!;
  const work = 'while (process.cpuUsage().user < 200_000);';
  const { status } = spawnSync(process.execPath, ['-e', work]);
  expect(status).toBe(0);
  expect(childSeconds()! - before).toBeGreaterThan(0);
});

test('reads the times of children, whatever the name of the process', () => {
  // After the name: 11 fields, then utime, stime, cutime and cstime in hundredths of a second.
  expect(childSeconds(`12 (a) b) S ${'0 '.repeat(10)}5 7 250 50 20 0`)).toBe(3);
  expect(childSeconds(null)).toBeNull();
});
