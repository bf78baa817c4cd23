/** run.log: one JSON object per line, each an event of this vocabulary. docs/reference/events.md is made of it. */
import type { Mapping } from '../files/json.js';
import { duration, quantity } from '../text/quantities.js';
import { timeOfDay } from './console.js';
import { validationResults } from './metrics-reader.js';

export type EventLevel = 'info' | 'warn' | 'error';

/** The level of a line that a process prints, "[worker 0] warn refused ...", and the line without it. */
export function leveled(line: string): { level: EventLevel; message: string } {
  const [, who = '', level = 'info', text = ''] = /^(\[[^\]]+\] )?(?:(warn|error) )?(.*)$/s.exec(line)!;
  return { level: level as EventLevel, message: who + text };
}

interface EventKind {
  meaning: string;
  /** Fields beside `time`, `level` and `event`. */
  fields: string;
  /** The event as a person reads it. */
  text: (event: Mapping) => string;
}

const text = (value: unknown) => (typeof value === 'string' ? value : String(value ?? ''));
const measured = (value: unknown, unit: (value: number) => string) =>
  typeof value === 'number' ? unit(value) : text(value);

/** All events, by their names in `event`. */
export const EVENTS = {
  phase: {
    meaning: 'The run entered a phase.',
    fields: 'phase',
    text: ({ phase }) => `the run is ${text(phase)}`,
  },
  generation: {
    meaning: 'The workers formed a generation.',
    fields: 'generation',
    text: ({ generation }) => `generation ${text(generation)}`,
  },
  start: {
    meaning: 'The first step is about to begin.',
    fields: 'first_step',
    text: ({ first_step: step }) => `the first step is ${text(step)}`,
  },
  step: {
    meaning: 'A step was committed; one in telemetry.log_every.',
    fields: 'step, steps, loss, seconds',
    text: ({ step, steps, loss, seconds }) =>
      `step ${text(step)}/${text(steps)} | loss ${measured(loss, quantity)} | ${measured(seconds, duration)}`,
  },
  validation: {
    meaning: 'A validation was made.',
    fields: 'step, seconds, val_ema, val_master',
    text: (event) => {
      const results = validationResults({ ...event, type: 'validation' });
      const losses = results.map(({ weights, mean }) => `${weights} ${quantity(mean)}`);
      const { step, seconds } = event;
      return [`validation at step ${text(step)}`, ...losses, measured(seconds, duration)].join(' | ');
    },
  },
  checkpoint: {
    meaning: 'A checkpoint can be resumed from.',
    fields: 'step, path, seconds, stall_seconds, bytes',
    text: ({ step, path, seconds }) =>
      `checkpoint of step ${text(step)} in ${text(path)} | ${measured(seconds, duration)}`,
  },
  missed_checkpoint: {
    meaning: 'A checkpoint that was due is not there.',
    fields: 'step, reason, code, message',
    text: ({ step, reason, code, message }) =>
      `checkpoint of step ${text(step)} ${text(reason)}: ${text(code)}: ${text(message)}`,
  },
  count: {
    meaning: 'Something happened that is counted (the counters of docs/reference/metrics.md).',
    fields: 'what, by',
    text: ({ what, by }) => `${text(what)} + ${text(by)}`,
  },
  message: {
    meaning: 'A message for the user, as the terminal shows it; also the lines that workers print.',
    fields: 'message',
    text: ({ message }) => text(message),
  },
} satisfies Record<string, EventKind>;

export type EventName = keyof typeof EVENTS;

export function eventObject(event: EventName, level: EventLevel, fields: object, time = new Date()): object {
  return { time: time.toISOString(), level, event, ...fields };
}

/** Levels in logs of earlier versions. */
const NUMBERED: Readonly<Record<number, string>> = { 40: 'warn', 50: 'error' };

/** A line of run.log as a person reads it, one of an earlier version, too; null if it is neither. */
export function eventLine(event: Mapping): string | null {
  const at = new Date(event.time as string | number);
  if (Number.isNaN(at.getTime())) return null;
  const name = event.event;
  const isKnown = typeof name === 'string' && Object.hasOwn(EVENTS, name);
  const level = typeof event.level === 'number' ? (NUMBERED[event.level] ?? 'info') : text(event.level);
  const said = isKnown ? EVENTS[name as EventName].text(event) : text(event.msg ?? event.message);
  return `${timeOfDay(at)} ${level === 'warn' || level === 'error' ? `${level} ` : ''}${said}`;
}

/** The phase that an event, of whichever version, says that the run entered; otherwise null. */
export function phaseOf(event: Mapping): string | null {
  return typeof event.phase === 'string' ? event.phase : null;
}
