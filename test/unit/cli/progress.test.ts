import { expect, test, vi } from 'vitest';
import { bytesOf, countOf, Progress } from '../../../src/cli/progress.js';

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
  expect(lastLine(countOf('picture'), 1)).toMatch(/working \| 1\/1 picture \| 0\.\d s\n$/);
  expect(lastLine(countOf('picture'), 16)).toMatch(/working \| 16\/16 pictures \| /);
  expect(lastLine(bytesOf, 8_704_000)).toMatch(/working \| 8\.3 MiB of 8\.3 MiB \| /);
});
