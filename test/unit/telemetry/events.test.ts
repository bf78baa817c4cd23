import { join } from 'node:path';
import { expect, test } from 'vitest';
import { EVENTS, eventLine, phaseOf } from '../../../src/telemetry/events.js';
import { logFile } from '../../../src/telemetry/log.js';
import { temporaryFolder } from '../../support/folders.js';
import { readLines } from '../../support/launched.js';
import { withoutTimes } from '../../support/program.js';
import { record } from '../../support/records.js';

test('every line of run.log is an event of the vocabulary, with its fields, and reads as a sentence', () => {
  const path = join(temporaryFolder(), 'run.log');
  const log = logFile(path);
  log.phase?.('RUNNING');
  log.note?.('warn', 'look');
  log.begin?.();
  log.generation?.(2);
  log.start?.({ firstStep: 51, validations: [], recordedSeconds: 0 });
  log.count?.('restarts', 1);
  log.count?.('skipped_rows', 0);
  log.step?.(record);
  log.step?.({ ...record, step: 121, logged: false });
  const results = [{ weights: 'ema', mean: 0.5, bins: [{ name: 't=0.5', loss: 0.5 }], epsilon: [] }];
  log.validation?.({ step: 120, seconds: 15.7, results, emaDistance: null });
  log.checkpoint?.({ step: 120, path: 'p', seconds: 1.5, stallSeconds: 0.002, bytes: 3e9 });
  const fault = { code: 'ERR_CHECKPOINT_WRITE', message: 'full', hint: null } as const;
  log.missedCheckpoint?.({ step: 130, reason: 'failed', fault });
  void log.close?.();
  const lines = readLines(path);
  // What came before the first step is first.
  expect(lines.map(({ event }) => event)).toEqual([
    ...['phase', 'message', 'generation', 'start', 'count', 'step', 'validation', 'checkpoint'],
    'missed_checkpoint',
  ]);
  expect(new Set(lines.map(({ event }) => event))).toEqual(new Set(Object.keys(EVENTS)));
  for (const { time, level, event, ...fields } of lines) {
    expect(time).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    const known = EVENTS[event as keyof typeof EVENTS].fields.split(', ');
    expect(Object.keys(fields).filter((field) => !known.includes(field))).toEqual([]);
  }
  expect(lines.map((line) => withoutTimes(eventLine(line)!))).toEqual([
    'the run is RUNNING',
    'warn look',
    'generation 2',
    'the first step is 51',
    'restarts + 1',
    'step 120/50000 | loss 0.4213 | 312 ms',
    'validation at step 120 | ema 0.5000 | 15.7 s',
    'checkpoint of step 120 in p | 1.5 s',
    'warn checkpoint of step 130 failed: ERR_CHECKPOINT_WRITE: full',
  ]);
});

test('lines of earlier versions are read, and what is no event is not', () => {
  const before = { level: 50, time: 1_795_646_993_506, pid: 1, phase: 'FAILED', msg: 'the run is FAILED' };
  expect(withoutTimes(eventLine(before)!)).toBe('error the run is FAILED');
  expect(phaseOf(before)).toBe('FAILED');
  expect(eventLine({ msg: 'x' })).toBeNull();
});
