/**
 * Records on their way from the coordinator to the launcher, which shows them. The coordinator never waits for
 * the launcher: while one message has not been taken, as when the launcher is stopped, the next are dropped.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { now, type Recorder, type RunHeader, type Sink, type TimeOf } from './record.js';

/** Time for which the end of a run waits for a launcher that does not take its last messages. */
const PATIENCE_MS = 3_000;

type Shown = Omit<Recorder, 'begin' | 'close'>;

/** A call of a sink's method: ["phase", "RUNNING"]. */
type RelayedRecord = { [Name in keyof Shown]: [Name, ...Parameters<Shown[Name]>] }[keyof Shown];

export interface RelayMessage {
  /** Comes before all records. */
  header?: RunHeader;
  record?: RelayedRecord;
  /** When it was made, in milliseconds since 1970. */
  time?: number;
  /** Number of records that were dropped before this one. */
  dropped?: number;
}

/**
 * Sends a message.
 *
 * @param taken Called when the message is on its way.
 * @returns false if too much is waiting.
 */
export type Send = (message: RelayMessage, taken: () => void) => boolean;

export function relay(header: RunHeader, send: Send, time: TimeOf = now): Sink {
  /** Messages that are not on their way. */
  let waiting = 0;
  let full = false;
  let dropped = 0;
  const post = (message: RelayMessage) => {
    waiting++;
    const room = send(message, () => {
      waiting--;
      if (waiting === 0) full = false;
    });
    full = !room;
  };
  const pass = (...record: RelayedRecord) => {
    if (full && !isOutcome(record)) {
      dropped++;
      return;
    }
    const message = { record, time: time().getTime() };
    post(dropped === 0 ? message : { ...message, dropped });
    dropped = 0;
  };
  post({ header });
  return {
    start: (record) => pass('start', record),
    step: (record) => pass('step', record),
    validation: (record) => pass('validation', record),
    validating: (record) => pass('validating', record),
    checkpoint: (record) => pass('checkpoint', record),
    missedCheckpoint: (record) => pass('missedCheckpoint', record),
    generation: (generation) => pass('generation', generation),
    count: (what, by) => pass('count', what, by),
    suspended: (seconds) => pass('suspended', seconds),
    phase: (phase) => pass('phase', phase),
    note: (level, message) => pass('note', level, message),
    close: async () => {
      const end = performance.now() + PATIENCE_MS;
      while (waiting > 0 && performance.now() < end) await sleep(5);
    },
  };
}

/** How a run ends is said in few messages, which are kept for a launcher that continues later. */
function isOutcome([name, first]: RelayedRecord): boolean {
  return name === 'phase' || (name === 'note' && first === 'error');
}

/** Passes a record to a sink, as if it had been called in this process. */
export function replay(sink: Sink, [name, ...values]: RelayedRecord): void {
  const method = sink[name] as ((...values: unknown[]) => void) | undefined;
  method?.(...values);
}
