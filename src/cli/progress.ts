import { bytes, counted } from '../text/quantities.js';

/** "3/20 steps", "1/1 picture" */
export function countOf(unit: string) {
  return (done: number, total: number) => `${done}/${counted(total, unit)}`;
}

/** "8.3 MiB of 1.2 GiB" */
export function bytesOf(done: number, total: number): string {
  return `${bytes(done)} of ${bytes(total)}`;
}

/** Progress of long work on stderr: one rewritten line on a terminal, otherwise a plain line at times. */
export class Progress {
  readonly #what: string;
  readonly #amount: (done: number, total: number) => string;
  readonly #started = performance.now();
  #lastLine = Number.NEGATIVE_INFINITY;
  #lastDone = -1;
  #open = false;

  /**
   * @param what The work: "sampling".
   * @param amount How much is done, in words: `countOf('step')` or `bytesOf`.
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
    const seconds = (now - this.#started) / 1000;
    const eta = done === total ? '' : ` | eta ${((seconds / done) * (total - done)).toFixed(0)} s`;
    const line = `${this.#what} | ${this.#amount(done, total)} | ${seconds.toFixed(1)} s${eta}`;
    if (!process.stderr.isTTY) process.stderr.write(`${line}\n`);
    else process.stderr.write(`\r\x1b[K${line}${done === total ? '\n' : ''}`);
    this.#open = done < total;
  }

  /** Ends the line when work stops early, so that the next output begins on a new one. */
  end(): void {
    if (this.#open && process.stderr.isTTY) process.stderr.write('\n');
    this.#open = false;
  }
}
