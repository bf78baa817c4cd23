/** The live table on a terminal: redrawn in place, with events scrolling above it. */
import { fieldLines, shownLength } from '../text/columns.js';
import { painter, plainConsole } from './console.js';
import { validationLine } from './lines.js';
import { droppedLines } from './output.js';
import type { RunHeader, Sink, TimeOf } from './record.js';
import { RunProgress } from './run-progress.js';
import { viewLines, workerLines } from './view-lines.js';

const REDRAW_MS = 100;
/** Times and ages go on where nothing else happens. */
const TICK_MS = 1_000;
/** Events that are kept for a terminal that stands still. */
const MAX_ABOVE = 1_000;

interface TableOptions {
  header: RunHeader;
  colour: boolean;
  /** The terminal's size, read at every redraw. */
  size: () => { columns: number; rows: number };
  /** Whether the run has the terminal; after `bg` a shell has it, and a table would be drawn over its lines. */
  foreground: () => boolean;
  /** Whether the terminal has taken everything; otherwise nothing is drawn before the end. */
  ready: () => boolean;
  /** When the event that is passed has happened; by default now. */
  time?: TimeOf;
  write: (text: string) => void;
}

export interface LiveTable extends Sink {
  /** The terminal's size has changed. */
  resized(): void;
  /** The run continues after Ctrl-Z. The shell has written below the table, so the next table is drawn below that. */
  continued(): void;
}

export function liveTable({ header, colour, size, foreground, ready, time, write }: TableOptions): LiveTable {
  const progress = new RunProgress(header);
  const paint = painter(colour);
  /** Widths of the lines on the screen that the next redraw replaces. */
  let drawn: number[] = [];
  /** Lines that are to scroll above the table. */
  let above: string[] = [];
  let lost = 0;
  let timer: NodeJS.Timeout | undefined;
  const draw = (last = false) => {
    clearTimeout(timer);
    timer = undefined;
    if (!last && !ready()) {
      // The terminal stands still. It gets the newest state when it moves again.
      lost += Math.max(0, above.length - MAX_ABOVE);
      above = above.slice(-MAX_ABOVE);
      drawSoon();
      return;
    }
    const { columns, rows } = size();
    // A terminal that has become narrower has broken the lines that are on it.
    const height = drawn.reduce((sum, width) => sum + Math.max(1, Math.ceil(width / columns)), 0);
    const up = height > 0 ? `\u001b[${Math.min(height, rows - 1)}A\r` : '';
    const top = viewLines(progress.view(), columns, paint);
    const workers = progress.lastStep?.workers ?? [];
    // One line is the cursor's.
    const table = [...top, ...workerLines(workers, columns, rows - top.length - 1, paint)].slice(0, rows - 1);
    const lines = foreground() ? table : [];
    const missing = lost > 0 ? [droppedLines(lost)] : [];
    const events = above.flatMap((line) => fieldLines(line, columns));
    const shown = [...missing, ...events, ...lines];
    // Line by line, so that nothing is blank in between. tmux keeps a screen that is erased from its first line on
    // among the lines that have scrolled away.
    if (lines.length > 0) write(`${up}${shown.map((line) => overOld(line, columns)).join('')}\u001b[J`);
    else if (shown.length > 0) write(shown.map((line) => `${line}\n`).join(''));
    drawn = lines.map(shownLength);
    above = [];
    lost = 0;
  };
  const drawSoon = () => {
    timer ??= setTimeout(() => draw(), REDRAW_MS);
  };
  const ticker = setInterval(drawSoon, TICK_MS).unref();
  const printed = plainConsole((text) => {
    above.push(text.replace(/\n$/, ''));
    draw();
  }, time);
  return {
    start: (record) => {
      progress.start(record);
      drawSoon();
    },
    step: (record) => {
      progress.step(record);
      drawSoon();
    },
    validating: (record) => {
      progress.validating(record);
      drawSoon();
    },
    validation: (record) => {
      progress.validation(record);
      printed.note('info', validationLine(record));
    },
    checkpoint: (record) => {
      progress.checkpoint(record);
      printed.checkpoint(record);
    },
    missedCheckpoint: () => progress.missedCheckpoint(),
    count: (what, by) => progress.count(what, by),
    suspended: (seconds) => progress.suspended(seconds),
    phase: (phase) => {
      progress.phase(phase);
      drawSoon();
    },
    note: printed.note,
    resized: () => draw(),
    continued: () => {
      drawn = [];
      drawSoon();
    },
    close: () => {
      clearInterval(ticker);
      // How the run ended waits in the output for a terminal that is slow.
      draw(true);
    },
  };
}

/** A line in place of what is on the screen. It may take several rows: a word that is longer than one stays whole. */
function overOld(line: string, columns: number): string {
  const width = shownLength(line);
  // After a full row the cursor still stands on its last character, which would be erased.
  const isFull = width > 0 && width % columns === 0;
  return `${line}${isFull ? '' : '\u001b[K'}\n`;
}
