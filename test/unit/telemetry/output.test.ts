import { execFileSync } from 'node:child_process';
import { constants, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { nonBlocking, Output } from '../../../src/telemetry/output.js';
import { type RelayMessage, relay, replay } from '../../../src/telemetry/relay.js';
import { temporaryFolder } from '../../support/folders.js';
import { header } from '../../support/records.js';

/** A pipe, which takes 64 KiB, and what reads from it. */
function pipe() {
  const path = join(temporaryFolder(), 'pipe');
  execFileSync('mkfifo', [path]);
  const reader = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  const output = new Output(nonBlocking(openSync(path, constants.O_WRONLY | constants.O_NONBLOCK)));
  const chunk = Buffer.alloc(1 << 16);
  const read = () => {
    try {
      return chunk.toString('utf8', 0, readSync(reader, chunk));
    } catch {
      return '';
    }
  };
  return { output, read };
}

test('a reader that takes nothing makes nobody wait; it is told how much it missed', async () => {
  const { output, read } = pipe();
  const line = `${'x'.repeat(1023)}\n`;
  for (let i = 0; i < 3000; i++) output.write(line);
  expect(output.idle).toBe(false);
  let got = '';
  await expect
    .poll(() => {
      got += read();
      return output.idle;
    })
    .toBe(true);
  output.write('the next\n');
  got += read();
  const kept = got.split('\n').filter((text) => text.startsWith('x')).length;
  // What the pipe and the buffer hold, in whole lines.
  expect(kept).toBeGreaterThanOrEqual(1024);
  expect(kept).toBeLessThan(1200);
  const missed = `${3000 - kept} lines could not be shown in time; run.log has all messages\n`;
  expect(got.endsWith(`${line}${missed}the next\n`)).toBe(true);
});

test('at the end, a reader that takes nothing is given up', async () => {
  const { output } = pipe();
  output.write('x'.repeat(1 << 17));
  const before = performance.now();
  await output.close();
  expect(performance.now() - before).toBeGreaterThan(2_000);
});

test('records reach the launcher in their order; while it takes none, they are dropped, but not how it ended', () => {
  const sent: RelayMessage[] = [];
  const taken: (() => void)[] = [];
  let room = true;
  const time = 1_000;
  const send = (message: RelayMessage, done: () => void) => {
    sent.push(message);
    taken.push(done);
    return room;
  };
  const sink = relay(header, send, () => new Date(time));
  sink.phase?.('RUNNING');
  sink.note?.('info', 'one');
  room = false;
  sink.note?.('info', 'two');
  for (const text of ['three', 'four']) sink.note?.('info', text);
  sink.phase?.('FAILED');
  sink.note?.('error', 'why');
  for (const done of taken) done();
  room = true;
  sink.note?.('info', 'later');
  expect(sent).toEqual([
    { header },
    { record: ['phase', 'RUNNING'], time },
    { record: ['note', 'info', 'one'], time },
    { record: ['note', 'info', 'two'], time },
    { record: ['phase', 'FAILED'], time, dropped: 2 },
    { record: ['note', 'error', 'why'], time },
    { record: ['note', 'info', 'later'], time },
  ]);
  const note = vi.fn();
  for (const { record } of sent) if (record !== undefined) replay({ note }, record);
  expect(note.mock.calls.map(([, text]) => text)).toEqual(['one', 'two', 'why', 'later']);
});
