import { stripVTControlCharacters } from 'node:util';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { painter } from '../../../src/telemetry/console.js';
import { summaryLines } from '../../../src/telemetry/lines.js';
import { RunProgress, type WorkerView } from '../../../src/telemetry/run-progress.js';
import { liveTable } from '../../../src/telemetry/table.js';
import { memberLines, viewLines, workerLines } from '../../../src/telemetry/view-lines.js';
import { header, record } from '../../support/records.js';
import { Screen } from '../../support/screen.js';

const ESCAPE = '\u001b';
const plain = painter(false);

beforeEach(() => void vi.useFakeTimers({ now: Date.UTC(2026, 10, 26, 12) }));
afterEach(() => void vi.useRealTimers());

/** A run with everything that can be shown. */
function progress() {
  const shown = new RunProgress(header);
  shown.phase('RUNNING');
  shown.start({ firstStep: 51, validations: [{ step: 50, loss: 0.75 }], recordedSeconds: 60 });
  shown.step({ ...record, step: 119, loss: 0.5, gradientNorm: 1.1, attention: record.attention });
  shown.step({ ...record, attention: [] });
  const bins = [{ name: 't=0.5', loss: 0.4 }];
  const results = [
    { weights: 'ema', mean: 0.8125, bins, epsilon: [] },
    { weights: 'master', mean: 0.9, bins, epsilon: [] },
  ];
  shown.validation({ step: 100, seconds: 15.7, results, emaDistance: 0.1 });
  shown.checkpoint({ step: 100, path: 'runs/x/checkpoints/step-00000100', freeBytes: 61.2 * 2 ** 30 });
  shown.count('restarts', 2);
  vi.advanceTimersByTime(185_000);
  return shown;
}

test('a wide terminal has everything that one watches for days', () => {
  expect(viewLines(progress().view(), 200, plain)).toEqual([
    `x  RUNNING  ${'.'.repeat(40)}  0 %  step 120/50000  eta 4h06m`,
    'loss 0.4213 | mean 0.4607 | grad norm 0.87 | lr 1.0e-4 | logit 9.3 | 50 % of steps clipped',
    '821 img/s | 312 ms a step | elapsed 4m36s | epoch 3.07 | 6 restarts | 196 GF/s',
    'validation 0.8125 | at step 100 | best 0.7500 at 50 | ema | took 15.7 s',
    'checkpoint of step 100 | 3m05s ago | 61.2 GiB free',
  ]);
});

test('the summary says that its loss is that of one step', () => {
  expect(summaryLines(progress())[0]).toMatch(
    /^summary \| 2 steps in .* \| loss of the last step 0\.4213 \| best/,
  );
});

test('the summary of a run that was resumed also has the time of all its steps', () => {
  const shown = progress();
  shown.phase('DONE');
  expect(summaryLines(shown)[0]).toMatch(/^summary \| 2 steps in 16 s of 1 min 31 s in all \| 31 img\/s/);
});

test('the time for which a run was suspended is none of its time', () => {
  const shown = progress();
  const before = shown.view().elapsed_seconds;
  vi.advanceTimersByTime(3_600_000);
  shown.suspended(3_590);
  expect(shown.view().elapsed_seconds).toBeCloseTo(before + 10, 6);
});

test('stragglers are named', () => {
  const shown = progress();
  shown.step({ ...record, stragglers: [{ rank: 3, host: 'b', times: 2.06 }] });
  expect(viewLines(shown.view(), 200, plain).at(-1)).toBe('rank 3 on b is slow: 2.1 times the median');
});

test('workers are listed with their rank, state, host and process; of many, those that do not train come first', () => {
  const worker = (rank: number, state: WorkerView['state'] = 'training'): WorkerView => ({
    ...{ rank, id: `b-${rank}`, host: 'b', pid: 4000 + rank, state, device: '' },
  });
  expect(memberLines([], 80)).toEqual([]);
  expect(memberLines([worker(0), { ...worker(1, 'lost'), rank: null, pid: null, host: '' }], 80)).toEqual([
    'rank     state  host   pid  worker',
    '0     training     b  4000     b-0',
    '-         lost     -     -     b-1',
  ]);
  const onGpus = memberLines([{ ...worker(0), device: 'H100, GPU 0 of 2' }], 80);
  expect(onGpus[1]).toMatch(/ H100, GPU 0 of 2$/);
  const many = Array.from({ length: 1_000 }, (_, rank) =>
    worker(rank, rank === 700 ? 'leaving' : 'training'),
  );
  const lines = memberLines(many, 80);
  expect(lines).toHaveLength(34);
  expect(lines[1]).toContain('leaving');
  expect(lines.at(-1)).toBe('and 968 others (--json lists all)');
});

test('a run that has made more steps than it is to have is complete', () => {
  const view = { ...progress().view(), step: 120, steps: 90 };
  expect(viewLines(view, 200, plain)[0]).toContain(`${'#'.repeat(40)}  100 %  step 120/90`);
});

test('at every width a number is whole or absent, and no line is longer', () => {
  const shown = progress();
  const workers = shown.lastStep!.workers;
  const all = (width: number) => [
    ...viewLines(shown.view(), width, plain),
    ...workerLines(workers, width, 20, plain),
  ];
  const numbers = (lines: readonly string[]) => lines.join('\n').match(/[\d.]+(e-\d+)?/g) ?? [];
  const whole = new Set(numbers(all(300)));
  expect(whole.size).toBeGreaterThan(25);
  for (let width = 1; width <= 220; width++) {
    const lines = all(width);
    for (const line of lines) expect(line.length, line).toBeLessThanOrEqual(width);
    // The bar is as long as there is room for it, and a name is no number.
    const odd = numbers(lines.map((line) => line.replace(/ {2}[#.]+ {2}/, '  '))).filter(
      (n) => !whole.has(n),
    );
    expect(odd, String(width)).toEqual([]);
  }
  expect(all(60)[0]).toMatch(/^x {2}RUNNING {2}\.{16} {2}0 % {2}step 120\/50000 {2}eta 4h06m$/);
  expect(all(80).at(-1)).toMatch(/^1 +2-3 +310 ms +580 ms +12 ms +600 MiB/);
});

test('of many workers, as many are shown as the terminal has lines for', () => {
  const workers = Array.from({ length: 64 }, (_, rank) => ({ ...record.workers[0]!, rank }));
  const lines = workerLines(workers, 80, 10, plain);
  expect(lines).toHaveLength(10);
  expect(lines.at(-1)).toBe('and 56 more workers');
});

test('a validation whose loss is not a number is the last one, never the best', () => {
  const shown = progress();
  const validate = (step: number, mean: number) =>
    shown.validation({
      step,
      seconds: 1,
      results: [{ weights: 'ema', mean, bins: [], epsilon: [] }],
      emaDistance: null,
    });
  validate(200, Number.NaN);
  expect(shown.view().validation).toMatchObject({
    last: { step: 200, loss: Number.NaN },
    best: { step: 50, loss: 0.75 },
  });
  const diverged = new RunProgress(header);
  diverged.start({ firstStep: 1, validations: [{ step: 1, loss: Number.NaN }], recordedSeconds: 0 });
  diverged.validation({
    step: 2,
    seconds: 1,
    results: [{ weights: 'ema', mean: 2, bins: [], epsilon: [] }],
    emaDistance: null,
  });
  expect(diverged.view().validation?.best).toEqual({ step: 2, loss: 2 });
});

test('a validation that is being made is shown, and never part of a step', () => {
  const shown = progress();
  shown.step({ ...record, step: 200 });
  vi.advanceTimersByTime(16_000);
  const [title, , speeds, validation] = viewLines(shown.view(), 200, plain);
  expect(title).toMatch(/RUNNING, validating/);
  expect(validation).toContain('validating for 16s');
  expect(validation).not.toContain('slots');
  shown.validating({ done: 12, total: 64 });
  expect(viewLines(shown.view(), 200, plain)[3]).toContain('validating for 16s | 12 of 64 slots');
  shown.step({ ...record, step: 201, validating: false });
  expect(shown.view().validating_slots).toBeNull();
  expect(speeds).toContain('821 img/s | 312 ms a step');
});

/** A terminal of a given size, which takes nothing while `ready` is false. */
function screen(columns: number, rows = 24) {
  const terminal = {
    columns,
    rows,
    ready: true,
    foreground: true,
    writes: [] as string[],
    screen: new Screen(columns),
  };
  const table = liveTable({
    header,
    colour: false,
    size: () => terminal,
    foreground: () => terminal.foreground,
    ready: () => terminal.ready,
    // The rest of a line is erased after it; below the last one the rest of the screen is.
    write: (text) => {
      if (text.includes(`${ESCAPE}[J`)) expect(text.indexOf(`${ESCAPE}[J`)).toBe(text.length - 3);
      terminal.writes.push(text.replaceAll(`${ESCAPE}[K`, ''));
      terminal.screen.write(text);
    },
  });
  return { terminal, table };
}

test('the table is redrawn in place, and events scroll above it', () => {
  const { terminal, table } = screen(60);
  table.phase?.('RUNNING');
  table.note?.('info', 'hello');
  table.step?.(record);
  table.note?.('info', 'again');
  const [first, second] = terminal.writes;
  expect(first).toMatch(/^2026-11-26 \S+ hello\nx {2}RUNNING {2}\.+ {2}0 % {2}step 50\/50000\n/);
  expect(second).toMatch(new RegExp(`^${ESCAPE}\\[1A\\r2026-11-26 \\S+ again\\nx  RUNNING`));
  void table.close?.();
  // Title, loss, speed, validation, checkpoint, head and two workers.
  expect(terminal.writes[2]).toContain(`${ESCAPE}[8A`);
});

test('a terminal that became narrower has broken the lines, which are all replaced', () => {
  const { terminal, table } = screen(160);
  table.step?.(record);
  table.note?.('info', 'wide');
  const widths = stripVTControlCharacters(terminal.writes[0]!).trimEnd().split('\n').slice(1);
  terminal.columns = 60;
  table.resized();
  const broken = widths.reduce((sum, line) => sum + Math.ceil(line.length / 60), 0);
  expect(broken).toBeGreaterThan(widths.length);
  expect(terminal.writes[1]).toContain(`${ESCAPE}[${broken}A`);
  void table.close?.();
});

test('after Ctrl-Z and fg the table is drawn below what the shell has written', () => {
  const { terminal, table } = screen(80);
  table.step?.(record);
  table.note?.('info', 'the run is suspended');
  table.continued();
  vi.advanceTimersByTime(200);
  expect(terminal.writes).toHaveLength(2);
  expect(terminal.writes[1]).toMatch(/^x {2}INIT, validating .*step 120\/50000/);
  table.note?.('info', 'goes on');
  expect(terminal.writes[2]).toContain(`${ESCAPE}[8A`);
  void table.close?.();
});

test('in the background events are printed, and the table is drawn when the run has the terminal again', () => {
  const { terminal, table } = screen(80);
  table.step?.(record);
  table.note?.('info', 'before');
  terminal.foreground = false;
  table.continued();
  vi.advanceTimersByTime(5_000);
  expect(terminal.writes).toHaveLength(1);
  table.note?.('info', 'event');
  expect(terminal.writes[1]).toMatch(/^2026-11-26 \S+ event\n$/);
  terminal.foreground = true;
  vi.advanceTimersByTime(1_200);
  expect(terminal.writes).toHaveLength(3);
  expect(terminal.writes[2]).toMatch(/^x {2}INIT, validating /);
  void table.close?.();
});

test('a terminal that stands still is not written to; then it gets the newest state, and what it missed', () => {
  const { terminal, table } = screen(80);
  table.note?.('info', 'before');
  terminal.ready = false;
  for (let i = 0; i < 1500; i++) table.note?.('info', `event ${i}`);
  table.step?.(record);
  vi.advanceTimersByTime(5_000);
  expect(terminal.writes).toHaveLength(1);
  terminal.ready = true;
  vi.advanceTimersByTime(200);
  const text = terminal.writes[1]!;
  expect(text).toContain('500 lines could not be shown in time');
  expect(text.match(/event \d+/g)).toHaveLength(1000);
  expect(text).toContain('step 120/50000');
  void table.close?.();
});

test('how a run ended is written to a terminal that has not taken everything yet', () => {
  const { terminal, table } = screen(80);
  terminal.ready = false;
  table.phase?.('DONE');
  table.note?.('info', 'All 24 steps are done');
  expect(terminal.writes).toEqual([]);
  void table.close?.();
  expect(terminal.writes).toHaveLength(1);
  expect(terminal.writes[0]).toMatch(/All 24 steps are done\nx {2}DONE/);
  expect(vi.getTimerCount()).toBe(0);
});

test('long events are parted between their numbers, and a word that is longer than a line stays whole', () => {
  const { terminal, table } = screen(60);
  const fields = Array.from({ length: 8 }, (_, i) => `t=0.${i} ${i}.1234`);
  table.note?.('info', ['losses', ...fields].join(' | '));
  const path = 'long/'.repeat(30);
  table.note?.('info', `wrote ${path}`);
  const [losses, note] = terminal.writes;
  const lines = stripVTControlCharacters(losses!).trimEnd().split('\n').slice(0, -1);
  for (const line of lines) expect(line.length).toBeLessThanOrEqual(60);
  expect(lines.length).toBeGreaterThan(2);
  expect(lines.slice(0, 4).join('').replaceAll(/ +/g, ' ')).toContain('t=0.6 6.1234 | t=0.7 7.1234');
  expect(note).toContain(path);
  void table.close?.();
});

test('a validation is one line, whatever its bins', () => {
  const { terminal, table } = screen(80);
  const bins = Array.from({ length: 8 }, (_, i) => ({ name: `t=0.${i}`, loss: 0.1234 + i }));
  const results = ['ema', 'master'].map((weights) => ({ weights, mean: 0.5, bins, epsilon: bins }));
  table.validation?.({ step: 100, seconds: 15.7, results, emaDistance: null });
  expect(terminal.writes[0]).toMatch(
    / validation at step 100 \| ema 0\.5000 \| master 0\.5000 \| 15\.7 s\nx {2}INIT/,
  );
  void table.close?.();
});

test('each second, times and ages go on', () => {
  const { terminal, table } = screen(80);
  table.phase?.('RUNNING');
  table.step?.({ ...record, recordedSeconds: 0 });
  vi.advanceTimersByTime(60_000);
  expect(terminal.writes.at(-1)).toMatch(/elapsed (59s|1m00s)/);
  void table.close?.();
});

test.each([
  ['an error with a hint', 'It broke\nhint: do this'],
  ['fields of several lines', `losses${' | t=0.5 0.1234'.repeat(8)}\nhint: none`],
  ['a word that is longer than the screen', `wrote /${'long/'.repeat(40)}`],
  ['a word that fills its rows', `wrote ${'y'.repeat(180)}`],
])('nothing of the old table stays beside %s', (_, message) => {
  const { terminal, table } = screen(60);
  table.step?.(record);
  table.note?.('info', 'before');
  const shown = terminal.screen.rows.slice(1, -1);
  expect(shown.length).toBeGreaterThanOrEqual(5);
  table.note?.('error', message);
  const rows = terminal.screen.rows;
  expect(rows.slice(-1 - shown.length, -1)).toEqual(shown);
  const event = rows
    .slice(1, -1 - shown.length)
    .join('')
    .replaceAll(/\s/g, '');
  expect(event.slice('2026-11-2612:00:00'.length)).toBe(`error${message}`.replaceAll(/\s/g, ''));
  void table.close?.();
});
