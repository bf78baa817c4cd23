import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { expect, onTestFinished, test } from 'vitest';
import { isAlive, isForeground, processId } from '../../../src/files/processes.js';

test('a name with parentheses and spaces, which anybody may give a process, is not taken for its numbers', async () => {
  const name = 'x) S 1 2 3 4 5';
  const naming = `process.title = '${name}'; console.log(''); setInterval(() => {}, 1000)`;
  // In a session of its own, it has no terminal.
  const child = spawn(process.execPath, ['-e', naming], {
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onTestFinished(() => {
    child.kill('SIGKILL');
  });
  await once(child.stdout, 'data');
  const pid = child.pid!;
  expect(readFileSync(`/proc/${pid}/stat`, 'utf8')).toContain(`(${name})`);
  expect(isForeground(pid)).toBe(true);
  const id = processId(pid);
  expect(id.started).toMatch(/^\d+$/);
  expect(isAlive(id)).toBe(true);
});
