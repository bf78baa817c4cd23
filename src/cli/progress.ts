/** Progress of a command's long work, on standard error. */
import { counted, timeSpan } from '../text/quantities.js';

/** The remaining time is that of the pace over about this long, and is told after a part of it. */
const WINDOW_MS = 20_000;
const TOLD_AFTER_MS = 3_000;

/** "3/20 steps", "1/1 picture" */
export function countOf(unit: string) {
  return (done: number, total: number) => `${done}/${counted(total, unit)}`;
}

/** The first fields of a line, as many as fit on the terminal: a line that it breaks cannot be rewritten. */
export function fittedFields(line: string): string {
  // The last column stays free, where some terminals begin a new line.
  const width = (process.stderr.columns || 80) - 1;
  const [first, ...others] = line.split(' | ');
  let fitting = first!.slice(0, width);
  for (const field of others) {
    if (fitting.length + 3 + field.length > width) break;
    fitting += ` | ${field}`;
  }
  return fitting;
}

/** Progress of long work on stderr: one rewritten line on a terminal, otherwise a plain line at times. */
export class Progress {
  readonly #what: string;
  readonly #amount: (done: number, total: number) => string;
  readonly #started = performance.now();
  #lastLine = Number.NEGATIVE_INFINITY;
  /** What was done when a line was shown, the oldest first. */
  readonly #paces = [{ now: performance.now(), done: 0 }];
  #lastDone = -1;
  #open = false;

  /**
   * @param what The work: "sampling".
   * @param amount How much is done, in words: `countOf('step')` or `bytesOfWhole`.
   */
  constructor(what: string, amount: (done: number, total: number) => string) {
    this.#what = what;
    this.#amount = amount;
  }

  update(done: number, total: number): void {
    if (done === this.#lastDone) return;
    this.#lastDone = done;
    const now = performance.now();
    const interval = process.stderr.isTTY ? 100 : 5000;
    if (done < total && now - this.#lastLine < interval) return;
    this.#lastLine = now;
    const span = timeSpan((now - this.#started) / 1000);
    const line = `${this.#what} | ${this.#amount(done, total)} | ${span}${this.#remaining(now, done, total)}`;
    if (!process.stderr.isTTY) process.stderr.write(`${line}\n`);
    else process.stderr.write(`\r\x1b[K${fittedFields(line)}${done === total ? '\n' : ''}`);
    this.#open = done < total;
  }

  /** " | 2 min 5 s left", by the pace of the last seconds; nothing before the pace is known. */
  #remaining(now: number, done: number, total: number): string {
    this.#paces.push({ now, done });
    while (this.#paces.length > 2 && now - this.#paces[1]!.now > WINDOW_MS) this.#paces.shift();
    const first = this.#paces[0]!;
    if (done === total || done <= first.done || now - this.#started < TOLD_AFTER_MS) return '';
    const seconds = (((now - first.now) / (done - first.done)) * (total - done)) / 1000;
    return ` | ${timeSpan(seconds)} left`;
  }

  /** Ends the line when work stops early, so that the next output begins on a new one. */
  end(): void {
    if (this.#open && process.stderr.isTTY) process.stderr.write('\n');
    this.#open = false;
  }
}
