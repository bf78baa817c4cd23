/** Terminal output: one line per step to a file or a pipe; on a terminal, a live table below the events. */
import { styleText } from 'node:util';
import { duration } from '../text/quantities.js';
import { stepLine, validationLines } from './lines.js';
import type { Sink } from './record.js';

/** Plain lines, for people and for grep. */
export function plainConsole(write: (text: string) => void) {
  return {
    step: (record) => write(`${stepLine(record)}\n`),
    validation: (record) => {
      for (const line of validationLines(record)) write(`${line}\n`);
    },
    checkpoint: ({ step, path, seconds, stallSeconds }) =>
      write(
        `checkpoint of step ${step} in ${path} | ${duration(seconds)}, of which training waited ${duration(stallSeconds)}\n`,
      ),
    // The same form in which the command line prints errors: "error ERR_CODE: message".
    note: (level, message) => write(`${level === 'info' ? '' : `${level} `}${message}\n`),
  } satisfies Sink;
}

type Style = Parameters<typeof styleText>[0];

/** A function that styles text, or returns it unchanged without colour. */
export function painter(colour: boolean): (style: Style, text: string) => string {
  return (style, text) => (colour ? styleText(style, text) : text);
}

/** Whether a stream gets colours: it is a terminal, and NO_COLOR is not set. */
export function wantsColour(stream: { isTTY?: boolean }, environment: NodeJS.ProcessEnv): boolean {
  const refused = environment.NO_COLOR !== undefined && environment.NO_COLOR !== '';
  return stream.isTTY === true && !refused && environment.TERM !== 'dumb';
}
