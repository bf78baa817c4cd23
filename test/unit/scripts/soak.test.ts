/** scripts/soak.mjs: whoever reads its exit code knows whether all faults were tried. */
import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';

test('the time is over before all faults: exit code 2', () => {
  const words = ['scripts/soak.mjs', '--faults', '3', '--minutes', '0'];
  const { status, stdout } = spawnSync(process.execPath, words, { encoding: 'utf8' });
  expect(stdout).toContain('the time is over after 0 of 3 faults');
  expect(status).toBe(2);
});
