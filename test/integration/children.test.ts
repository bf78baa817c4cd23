import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { sendMessage, start } from '../../src/launch/children.js';

test('a message to a child whose end has not been heard of yet is no error', async () => {
  const child = await start(
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
