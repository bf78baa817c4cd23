/** Terminal output: one line per step to a file or a pipe; on a terminal, a live table below the events. */
import { styleText } from 'node:util';
import { duration } from '../text/quantities.js';
import { stepLine, validationLines } from './lines.js';
import { now, type Sink, type TimeOf } from './record.js';

/** Plain lines with the time of day before each, for people and for grep. */
export function plainConsole(write: (text: string) => void, time: TimeOf = now) {
  // Further lines of a message are indented, so that none of them looks like a message of its own.
  const say = (text: string) => write(`${timeOfDay(time())} ${text.replaceAll('\n', '\n  ')}\n`);
  return {
    step: (record) => {
      if (record.logged) say(stepLine(record));
    },
    validation: (record) => {
      for (const line of validationLines(record)) say(line);
    },
    checkpoint: ({ step, path, seconds, stallSeconds }) =>
      say(
        `checkpoint of step ${step} in ${path} | ${duration(seconds)}, of which training waited ${duration(stallSeconds)}`,
      ),
    // The same form in which the command line prints errors: "error ERR_CODE: message".
    note: (level, message) => say(`${level === 'info' || level === 'notice' ? '' : `${level} `}${message}`),
  } satisfies Sink;
}

/** Only notices, what went wrong, and what is said when the run is over: how it ended, and the summary. */
export function quietConsole(write: (text: string) => void, time: TimeOf = now) {
  const { note } = plainConsole(write, time);
  let isOver = false;
  return {
    phase: (phase) => {
      isOver = ['DONE', 'STOPPED', 'FAILED'].includes(phase);
    },
    note: (level, message) => {
      if (isOver || level !== 'info') note(level, message);
    },
  } satisfies Sink;
}

/** "2026-11-26 13:40:12", in the zone of this process. */
export function timeOfDay(time: Date): string {
  const two = (n: number) => String(n).padStart(2, '0');
  const day = [time.getFullYear(), two(time.getMonth() + 1), two(time.getDate())].join('-');
  return `${day} ${[time.getHours(), time.getMinutes(), time.getSeconds()].map(two).join(':')}`;
}

type Style = Parameters<typeof styleText>[0];

/** A function that styles text, or returns it unchanged without colour. */
export function painter(colour: boolean): (style: Style, text: string) => string {
  return (style, text) => (colour ? styleText(style, text) : text);
}

/** Whether a stream gets colours: it is a terminal, and NO_COLOR is not set; or FORCE_COLOR says so. */
export function wantsColour(stream: { isTTY?: boolean }, environment: NodeJS.ProcessEnv): boolean {
  const { FORCE_COLOR: forced } = environment;
  if (forced !== undefined && forced !== '') return forced !== '0' && forced !== 'false';
  const refused = environment.NO_COLOR !== undefined && environment.NO_COLOR !== '';
  return stream.isTTY === true && !refused && environment.TERM !== 'dumb';
}
