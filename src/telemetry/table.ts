/** The live table on a terminal: redrawn in place, with events scrolling above it. */
import { alignedRows } from '../text/columns.js';
import { bytes, duration, eta, quantity } from '../text/quantities.js';
import { painter, plainConsole } from './console.js';
import { memoryOf, stepNumbers } from './lines.js';
import type { WorkerNumbers } from './metrics.js';
import type { RunHeader, Sink, StepRecord, ValidationRecord } from './record.js';

const REDRAW_MS = 100;
const BAR_WIDTH = 24;
/** Columns of seconds, with their titles. */
const SECONDS: readonly (readonly [title: string, number: keyof WorkerNumbers])[] = [
  ['total', 'total_seconds'],
  ['compute', 'compute_seconds'],
  ['exchange', 'exchange_seconds'],
  ['data', 'gather_seconds'],
  ['update', 'update_seconds'],
];

interface TableOptions {
  header: RunHeader;
  colour: boolean;
  /** Columns of the terminal, read at every redraw. */
  columns: () => number;
  write: (text: string) => void;
}

export function liveTable(options: TableOptions) {
  let phase = 'INIT';
  let record: StepRecord | null = null;
  let validation: ValidationRecord | null = null;
  /** Number of lines on the screen that the next redraw replaces. */
  let drawn = 0;
  let timer: NodeJS.Timeout | undefined;
  const draw = (above: string) => {
    clearTimeout(timer);
    timer = undefined;
    const width = options.columns();
    const lines = tableLines(options, phase, record, validation).map((line) => clip(line, width));
    const up = drawn > 0 ? `\u001b[${drawn}A\r\u001b[J` : '';
    drawn = lines.length;
    options.write(`${up}${above}${lines.map((line) => `${line}\n`).join('')}`);
  };
  const drawSoon = () => {
    timer ??= setTimeout(draw, REDRAW_MS, '');
  };
  const { validation: printValidation, checkpoint, note } = plainConsole(draw);
  return {
    checkpoint,
    note,
    step: (next) => {
      record = next;
      drawSoon();
    },
    validation: (next) => {
      validation = next;
      printValidation(next);
    },
    phase: (next) => {
      phase = next;
      drawSoon();
    },
    close: () => draw(''),
  } satisfies Sink;
}

function tableLines(
  { header, colour }: TableOptions,
  phase: string,
  record: StepRecord | null,
  validation: ValidationRecord | null,
): string[] {
  const paint = painter(colour);
  const step = record?.step ?? header.resumedStep;
  const filled = Math.round((BAR_WIDTH * step) / header.steps);
  const bar = `${'#'.repeat(filled)}${'.'.repeat(BAR_WIDTH - filled)}`;
  const over = ['DONE', 'STOPPED', 'FAILED'].includes(phase);
  const seconds = over ? null : (record?.etaSeconds ?? null);
  const remaining = seconds === null ? '' : `  eta ${eta(seconds)}`;
  const title = `${paint('bold', header.name)}  ${phase}  ${paint('cyan', bar)}  step ${step}/${header.steps}${remaining}`;
  if (record === null) return [title];
  const [loss, ...others] = stepNumbers(record);
  const numbers = [
    paint('bold', loss),
    ...others,
    ...(validation?.results ?? []).map(
      ({ weights, mean }) => `${weights}@${validation?.step} ${quantity(mean)}`,
    ),
  ].join(' | ');
  const rows = record.workers.map((worker) => [
    String(worker.rank),
    String(worker.pid),
    `${worker.firstSlot}-${worker.endSlot - 1}`,
    ...SECONDS.map(([, name]) => duration(worker.numbers[name])),
    bytes(memoryOf(worker)),
    duration(worker.numbers.event_loop_p99_seconds),
  ]);
  const memory = record.workers.some(({ device }) => device !== '') ? 'GPU memory' : 'memory';
  const heads = ['rank', 'pid', 'slots', ...SECONDS.map(([title]) => title), memory, 'loop p99'];
  const [head = '', ...body] = alignedRows([heads, ...rows]);
  return [title, numbers, paint('dim', head), ...body];
}

/**
 * Cuts a line to the terminal's width, so that it does not wrap and the number of drawn lines stays correct.
 */
function clip(line: string, width: number): string {
  let visible = 0;
  let out = '';
  // Escape sequences have no width.
  for (const piece of line.match(/\p{Cc}\[[0-9;]*m|./gu) ?? []) {
    if (!piece.startsWith('\u001b') && ++visible > width) continue;
    out += piece;
  }
  return out;
}
