/** Progress of long work on stderr: one line that is rewritten on a terminal, a plain line now and then elsewhere. */
export class Progress {
  private readonly started = performance.now();
  private lastLine = Number.NEGATIVE_INFINITY;
  private lastDone = -1;
  private open = false;

  /** @param what "sampling"; @param unit "steps". */
  constructor(
    private readonly what: string,
    private readonly unit: string,
    private readonly stream: NodeJS.WriteStream = process.stderr,
  ) {}

  update(done: number, total: number): void {
    if (done === this.lastDone) return;
    this.lastDone = done;
    const now = performance.now();
    const interval = this.stream.isTTY ? 100 : 5000;
    if (done < total && now - this.lastLine < interval) return;
    this.lastLine = now;
    const seconds = (now - this.started) / 1000;
    const eta = done === total ? '' : ` | eta ${((seconds / done) * (total - done)).toFixed(0)} s`;
    const line = `${this.what} | ${done}/${total} ${this.unit} | ${seconds.toFixed(1)} s${eta}`;
    if (!this.stream.isTTY) this.stream.write(`${line}\n`);
    else this.stream.write(`\r\x1b[K${line}${done === total ? '\n' : ''}`);
    this.open = done < total;
  }

  /** Leaves the line, for work that may end early; what follows begins on a new one. */
  end(): void {
    if (this.open && this.stream.isTTY) this.stream.write('\n');
    this.open = false;
  }
}
