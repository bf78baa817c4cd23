/** Progress of long work on stderr: a line that is rewritten on a terminal, a plain line now and then elsewhere. */
import { performance } from 'node:perf_hooks';

const TERMINAL_MS = 100;
const PLAIN_MS = 5000;

export class Progress {
  private last: number;
  private shown = false;

  /** label: "generating"; unit: "rows". */
  constructor(
    private readonly label: string,
    private readonly unit: string,
    private readonly stream: NodeJS.WriteStream = process.stderr,
  ) {
    // The first plain line comes after a while: short work needs none.
    this.last = stream.isTTY ? Number.NEGATIVE_INFINITY : performance.now();
  }

  update(done: number, total: number): void {
    const now = performance.now();
    if (now - this.last < (this.stream.isTTY ? TERMINAL_MS : PLAIN_MS)) return;
    this.last = now;
    const share = total > 0 ? Math.floor((100 * done) / total) : 100;
    const line = `${this.label}: ${done}/${total} ${this.unit} (${share}%)`;
    this.stream.write(this.stream.isTTY ? `\r\x1b[K${line}` : `${line}\n`);
    this.shown = true;
  }

  /** Takes the line off a terminal. */
  end(): void {
    if (this.shown && this.stream.isTTY) this.stream.write('\r\x1b[K');
  }
}
