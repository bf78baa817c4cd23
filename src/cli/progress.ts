/** Progress of long work on stderr: one rewritten line on a terminal, otherwise a plain line at times. */
export class Progress {
  readonly #what: string;
  readonly #unit: string;
  readonly #stream: NodeJS.WriteStream;
  readonly #started = performance.now();
  #lastLine = Number.NEGATIVE_INFINITY;
  #lastDone = -1;
  #open = false;

  /**
   * @param what The work: "sampling".
   * @param unit What is counted: "steps".
   */
  constructor(what: string, unit: string, stream: NodeJS.WriteStream = process.stderr) {
    this.#what = what;
    this.#unit = unit;
    this.#stream = stream;
  }

  update(done: number, total: number): void {
    if (done === this.#lastDone) return;
    this.#lastDone = done;
    const now = performance.now();
    const interval = this.#stream.isTTY ? 100 : 5000;
    if (done < total && now - this.#lastLine < interval) return;
    this.#lastLine = now;
    const seconds = (now - this.#started) / 1000;
    const eta = done === total ? '' : ` | eta ${((seconds / done) * (total - done)).toFixed(0)} s`;
    const line = `${this.#what} | ${done}/${total} ${this.#unit} | ${seconds.toFixed(1)} s${eta}`;
    if (!this.#stream.isTTY) this.#stream.write(`${line}\n`);
    else this.#stream.write(`\r\x1b[K${line}${done === total ? '\n' : ''}`);
    this.#open = done < total;
  }

  /** Ends the line when work stops early, so that the next output begins on a new one. */
  end(): void {
    if (this.#open && this.#stream.isTTY) this.#stream.write('\n');
    this.#open = false;
  }
}
