import { expect, test, vi } from 'vitest';
import { countOf, Progress } from '../../../src/cli/progress.js';
import { bytesOfWhole } from '../../../src/text/quantities.js';

/** The line on stderr for work that is complete. */
function lastLine(amount: (done: number, total: number) => string, total: number): string {
  const write = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  try {
    new Progress('working', amount).update(total, total);
    return String(write.mock.calls.at(-1)![0]);
  } finally {
    write.mockRestore();
  }
}

test('progress has its unit: counts in the singular and plural, bytes with prefixes', () => {
  expect(lastLine(countOf('picture'), 1)).toMatch(/working \| 1\/1 picture \| 1 s\n$/);
  expect(lastLine(countOf('picture'), 16)).toMatch(/working \| 16\/16 pictures \| /);
  expect(lastLine(bytesOfWhole, 8_704_000)).toMatch(/working \| 8\.3 of 8\.3 MiB \| /);
});

test('the remaining time is that of the last seconds, and is not told before there is a pace', () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  const write = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  const lines: string[] = [];
  write.mockImplementation((line) => {
    lines.push(String(line));
    return true;
  });
  try {
    const progress = new Progress('working', countOf('row'));
    // Slow for a minute, then ten times as fast.
    for (let second = 1, done = 0; second <= 120; second++) {
      done += second <= 60 ? 1 : 10;
      vi.advanceTimersByTime(1_000);
      progress.update(done, 1_000);
    }
  } finally {
    write.mockRestore();
    vi.useRealTimers();
  }
  expect(lines[0]).toBe('working | 1/1000 rows | 1 s\n');
  expect(lines[1]).toMatch(/^working \| 6\/1000 rows \| 6 s \| 16 min \d+ s left\n$/);
  // The mean since the start would say 50 s.
  expect(lines.at(-1)).toMatch(/^working \| \d+\/1000 rows \| 1 min 56 s \| 3[89] s left\n$/);
});
