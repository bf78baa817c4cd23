import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';

const demo = (...options: string[]) =>
  spawnSync('bash', ['scripts/demo.sh', ...options], { encoding: 'utf8' });

test('the demo says what options it has', () => {
  const { status, stdout } = demo('--help');
  expect(status).toBe(0);
  for (const option of ['--quick', '--steps N', 'DEMO_NODES=N']) expect(stdout).toContain(option);
});

test.each([
  [['--fast'], 'unknown option --fast'],
  [['--steps'], '--steps needs a number'],
  [['--steps', '50'], 'expected more than 50 steps, received 50'],
  [['--steps=1e3'], 'expected more than 50 steps, received 1e3'],
])('refuses %j before it begins', (options, message) => {
  const { status, stdout, stderr } = demo(...options);
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
  expect(stderr).toContain(`error ERR_USAGE: ${message}\n`);
});
