/** The events of a run as JSON lines: run.log, and what `launch --log-format json` prints. Metrics are in metrics.jsonl. */
import { closeSync, writeSync } from 'node:fs';
import { openForAppending, writeFailure } from '../files/io.js';
import { type EventLevel, type EventName, eventObject } from './events.js';
import { now, type Sink, type TimeOf } from './record.js';

/** Writes each event as one line. */
export function eventLines(write: (line: string) => void, time: TimeOf = now): Sink {
  const log = (event: EventName, fields: object, level: EventLevel = 'info') =>
    write(eventLine(event, level, fields, time()));
  return {
    start: ({ firstStep }) => log('start', { first_step: firstStep }),
    phase: (phase) => log('phase', { phase }),
    generation: (generation) => log('generation', { generation }),
    count: (what, by) => {
      if (by > 0) log('count', { what, by });
    },
    note: (level, message) => log('message', { message }, level === 'notice' ? 'info' : level),
    step: ({ step, steps, loss, seconds, logged }) => {
      if (logged) log('step', { step, steps, loss, seconds });
    },
    validation: ({ step, seconds, results }) => {
      const losses = results.map(({ weights, mean }) => [`val_${weights}`, mean]);
      log('validation', { step, seconds, ...Object.fromEntries(losses) });
    },
    checkpoint: ({ step, path, seconds, stallSeconds, bytes }) =>
      log('checkpoint', { step, path, seconds, stall_seconds: stallSeconds, bytes }),
    missedCheckpoint: ({ step, reason, fault: { code, message } }) =>
      log('missed_checkpoint', { step, reason, code, message }, 'warn'),
  };
}

export function eventLine(event: EventName, level: EventLevel, fields: object, time = now()): string {
  return `${JSON.stringify(eventObject(event, level, fields, time))}\n`;
}

/** Events before the first step are written when it begins; a run that never begins leaves no log. */
export function logFile(path: string, time: TimeOf = now): Sink {
  const early: string[] = [];
  let fd: number | null = null;
  /** Whether the file ends within a line, for which the disk had no room. */
  let isTorn = false;
  const write = (line: string) => {
    if (fd === null) {
      early.push(line);
      return;
    }
    const bytes = Buffer.from(isTorn ? `\n${line}` : line);
    let at = 0;
    try {
      while (at < bytes.length) at += writeSync(fd, bytes, at);
      isTorn = false;
    } catch {
      // A full disk must not end the run through its log. The ledger and metrics.jsonl report it.
      isTorn ||= at > 0;
    }
  };
  return {
    ...eventLines(write, time),
    begin: () => {
      try {
        fd = openForAppending(path);
      } catch (error) {
        throw writeFailure(path, error);
      }
      for (const line of early.splice(0)) write(line);
    },
    close: () => {
      if (fd !== null) closeSync(fd);
      fd = null;
    },
  };
}
