/** What the launcher shows of a run: the coordinator's records, and lines of its processes. */
import { isForeground } from '../files/processes.js';
import { fieldLines } from '../text/columns.js';
import { plainConsole, quietConsole, wantsColour } from './console.js';
import { leveled } from './events.js';
import { eventLine, eventLines } from './log.js';
import { droppedLines, type Output, type StandardStream, standardOutput } from './output.js';
import { now, type RunHeader, type Sink } from './record.js';
import { type RelayMessage, replay } from './relay.js';
import { type LiveTable, liveTable } from './table.js';

/** `quiet`: only what went wrong is shown, and how the run ended. `json`: the lines of run.log. */
export type ScreenForm = 'text' | 'quiet' | 'json';

export class Screen {
  readonly #stdout: StandardStream;
  readonly #output: Output;
  readonly #errors: Output;
  readonly #environment: NodeJS.ProcessEnv;
  readonly #isTerminal: boolean;
  readonly #form: ScreenForm;
  /** Null before the first message. */
  #sink: Sink | null = null;
  /** When what is being shown has happened; null: now. */
  #time: Date | null = null;
  /** Null where lines are printed. */
  #table: LiveTable | null = null;

  constructor(
    stdout: StandardStream,
    stderr: StandardStream,
    environment: NodeJS.ProcessEnv,
    form: ScreenForm = 'text',
  ) {
    this.#form = form;
    this.#stdout = stdout;
    const dropped = (message: string) => messageLine(`warn ${message}`);
    this.#output = standardOutput(stdout, form === 'json' ? dropped : undefined);
    // On one terminal all text goes one way, so that no line breaks into the table.
    this.#errors = stdout.isTTY && stderr.isTTY ? this.#output : standardOutput(stderr);
    this.#environment = environment;
    this.#isTerminal = stdout.isTTY === true && environment.TERM !== 'dumb' && !inCi(environment);
  }

  /** Shows a message of the coordinator. */
  receive({ header, record, time, dropped }: RelayMessage): void {
    this.#time = time === undefined ? null : new Date(time);
    if (header !== undefined) this.#sink = this.#open(header);
    if (dropped !== undefined) this.#sink?.note?.('warn', droppedLines(dropped));
    if (record !== undefined && this.#sink !== null) replay(this.#sink, record);
    this.#time = null;
  }

  /** Shows a line that is not one of the coordinator's records: on standard error, or above the table. */
  print(line: string): void {
    if (this.#form === 'json') this.#output.write(messageLine(line));
    else if (this.#errors === this.#output && this.#sink !== null && this.#form === 'text')
      this.#sink.note?.('info', line);
    else this.#errors.write(`${this.#errors === this.#output ? this.#folded(line) : line}\n`);
  }

  /** The run goes on after it was suspended. */
  continued(): void {
    this.#table?.continued();
  }

  /** Shows what is still to be shown; does not wait for a terminal that takes nothing. */
  async close(): Promise<void> {
    await this.#sink?.close?.();
    await this.#output.close();
    if (this.#errors !== this.#output) await this.#errors.close();
  }

  /** On a terminal, no word is broken at the right edge; the table folds its lines itself. */
  #folded(text: string): string {
    const { columns } = this.#stdout;
    return this.#isTerminal && columns > 0 ? fieldLines(text, columns).join('\n') : text;
  }

  #open(header: RunHeader): Sink {
    const write = (text: string) => this.#output.write(text);
    const time = () => this.#time ?? now();
    if (this.#form === 'json') return eventLines(write, time);
    if (this.#form === 'quiet') return quietConsole((text) => write(this.#folded(text)), time);
    if (!this.#isTerminal) return plainConsole(write, time);
    const table = liveTable({
      header,
      colour: wantsColour(this.#stdout, this.#environment),
      // A terminal that does not know its size says 0.
      size: () => ({ columns: this.#stdout.columns || 80, rows: this.#stdout.rows || 24 }),
      foreground: () => isForeground(process.pid),
      ready: () => this.#output.idle,
      time,
      write,
    });
    this.#stdout.on('resize', table.resized);
    this.#table = table;
    return table;
  }
}

/** A line that one of the run's processes has printed, as an event: its first word may be its level. */
function messageLine(line: string): string {
  const { level, message } = leveled(line);
  return eventLine('message', level, { message });
}

/** Whether a continuous integration keeps the output as a log, though some give a terminal. */
function inCi({ CI }: NodeJS.ProcessEnv): boolean {
  return CI !== undefined && CI !== '' && CI !== 'false';
}
