/** The terminal: a line per step where output is a file or a pipe, a live table below the events on a terminal. */
import { styleText } from 'node:util';
import { duration } from '../text/quantities.js';
import { stepLine, validationLines } from './lines.js';
import type { Sink } from './record.js';

export interface Output {
  write(text: string): void;
}

/** Lines for people and for grep. */
export function plainConsole(output: Output): Sink {
  return {
    step: (record) => output.write(`${stepLine(record)}\n`),
    validation: (record) => {
      for (const line of validationLines(record)) output.write(`${line}\n`);
    },
    checkpoint: ({ step, path, seconds, stallSeconds }) =>
      output.write(
        `checkpoint of step ${step} in ${path} | ${duration(seconds)}, of which training waited ${duration(stallSeconds)}\n`,
      ),
    // As the command line prints errors: "error ERR_CODE: what".
    note: (level, message) => output.write(`${level === 'info' ? '' : `${level} `}${message}\n`),
  };
}

type Style = Parameters<typeof styleText>[0];

/** Colours, or not: NO_COLOR and pipes are respected. */
export function painter(colour: boolean): (style: Style, text: string) => string {
  return (style, text) => (colour ? styleText(style, text) : text);
}

export function wantsColour(stream: { isTTY?: boolean }, environment: NodeJS.ProcessEnv): boolean {
  const refused = environment.NO_COLOR !== undefined && environment.NO_COLOR !== '';
  return stream.isTTY === true && !refused && environment.TERM !== 'dumb';
}
