/** bench/soak.ts: whoever reads its exit code knows whether all faults were tried. */
import { expect, test } from 'vitest';
import { Soak } from '../../../bench/soak-runs.js';

test('the time is over before all faults: exit code 2', async () => {
  const lines: string[] = [];
  const soak = new Soak(3, 1, 0, (line) => lines.push(line));
  expect(await soak.run(1)).toBe(2);
  expect(lines.at(-1)).toBe('the time is over after 0 of 3 faults');
});
