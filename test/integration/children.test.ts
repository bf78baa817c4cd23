import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { passLines, sendMessage, startChild } from '../../src/launch/children.js';

test('a message to a child whose end has not been heard of yet is no error', async () => {
  const child = await startChild(
    'child',
    [process.execPath, '-e', 'process.on("message", () => process.exit(3))'],
    {},
    ['ignore', 'inherit', 'inherit', 'ipc'],
  );
  sendMessage(child, { go: true });
  // Without a turn of the event loop between the child's end and the next message.
  spawnSync('sh', ['-c', `until grep -q "^State:.Z" /proc/${child.pid}/status; do sleep 0.05; done`]);
  sendMessage(child, { late: true });
  expect(await child.exited).toEqual({ code: 3, signal: null });
});

test('the output of a child comes line by line, the last line without its end too', async () => {
  const script = 'printf "one\\ntw"; sleep 0.1; printf "o\\n\\nthree"; echo error >&2';
  const child = await startChild('child', ['sh', '-c', script], {}, ['ignore', 'pipe', 'pipe']);
  const lines: string[] = [];
  passLines(child, (line) => lines.push(line));
  await child.exited;
  expect(lines.filter((line) => line !== 'error')).toEqual(['one', 'two', '', 'three']);
  expect(lines).toHaveLength(5);
});

test('output without an end of line is passed on in pieces, and escape sequences are not', async () => {
  const script = 'head -c 1000000 /dev/zero | tr "\\0" x; printf "\\n\\033[2Jthe end\\r\\n"';
  const child = await startChild('child', ['sh', '-c', script], {}, ['ignore', 'pipe', 'pipe']);
  const lines: string[] = [];
  passLines(child, (line) => lines.push(line));
  await child.exited;
  expect(lines.at(-1)).toBe('[2Jthe end');
  const pieces = lines.slice(0, -1);
  expect(pieces.join('')).toBe('x'.repeat(1_000_000));
  expect(Math.max(...pieces.map(({ length }) => length))).toBeLessThan(200_000);
});
