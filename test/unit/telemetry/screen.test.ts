import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import type { StandardStream } from '../../../src/telemetry/output.js';
import { Screen } from '../../../src/telemetry/screen.js';
import { header, record } from '../../support/records.js';

interface Line {
  time: string;
  level: string;
  event: string;
  message?: string;
}

/** A stream that is no terminal, and what its reader has got when it reads. */
function unread() {
  const stream = new PassThrough();
  const read = () => (stream.read() as Buffer | null)?.toString() ?? '';
  return { stream: Object.assign(stream, { fd: 1 }) as unknown as StandardStream, read };
}

function linesOf(text: string): Line[] {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);
}

test('for a reader that is slow every line is JSON, the one that says how many it missed, too', () => {
  const [stdout, stderr] = [unread(), unread()];
  const screen = new Screen(stdout.stream, stderr.stream, {}, 'json');
  screen.receive({ header });
  const steps = 12_000;
  for (let step = 1; step <= steps; step++) screen.receive({ record: ['step', { ...record, step }] });
  let text = '';
  for (let more = stdout.read(); more !== ''; more = stdout.read()) text += more;
  screen.receive({ record: ['note', 'info', 'the next'] });
  const lines = linesOf(text + stdout.read());
  const shown = lines.filter(({ event }) => event === 'step').length;
  expect(shown).toBeLessThan(steps);
  expect(lines.slice(shown)).toEqual([
    {
      time: expect.any(String),
      level: 'warn',
      event: 'message',
      message: `${steps - shown} lines could not be shown in time; run.log has all messages`,
    },
    { time: expect.any(String), level: 'info', event: 'message', message: 'the next' },
  ]);
  expect(stderr.read()).toBe('');
});

test('an event is shown with the time at which it happened, and what the launcher says with that of now', () => {
  const { stream, read } = unread();
  const screen = new Screen(stream, unread().stream, {}, 'json');
  screen.receive({ header });
  screen.receive({ record: ['note', 'info', 'before'], time: 0 });
  screen.print('warn now');
  const [before, now] = linesOf(read());
  expect(before).toMatchObject({ time: '1970-01-01T00:00:00.000Z', message: 'before' });
  expect(now).toMatchObject({ level: 'warn', message: 'now' });
  expect(Date.parse(now!.time)).toBeGreaterThan(Date.parse('2026-01-01'));
});
