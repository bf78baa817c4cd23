/** A process that trains a model on request. It writes a line of JSON when it is ready, and one per round. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

/** What every such process reports of a round; ours report more. */
export interface Timed {
  steps: number;
  seconds: number;
  loss: number;
  /** Peak resident memory of the process so far. */
  peakBytes: number;
}

export class RoundProcess<R extends Timed = Timed> {
  readonly #name: string;
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(name: string, child: ChildProcess) {
    this.#name = name;
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]();
  }

  /** Resolves when the model is built and warm. */
  static async start<Ready, R extends Timed>(
    name: string,
    command: string,
    args: string[],
    environment: Record<string, string>,
  ): Promise<{ process: RoundProcess<R>; ready: Ready }> {
    const child = spawn(command, args, {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, ...environment },
    });
    const started = new RoundProcess<R>(name, child);
    return { process: started, ready: (await started.#next()) as Ready };
  }

  /** Whole steps for about `seconds`, at least `steps` of them. */
  async run(seconds: number, steps = 1): Promise<R> {
    this.#child.stdin?.write(`${seconds} ${steps}\n`);
    return (await this.#next()) as R;
  }

  /** Resolves when the process has ended and its memory is free again. */
  async stop(): Promise<void> {
    const ended = once(this.#child, 'exit');
    this.#child.stdin?.end();
    if (this.#child.exitCode === null && this.#child.signalCode === null) await ended;
  }

  async #next(): Promise<unknown> {
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done) throw new Error(`${this.#name}: the process ended early`);
      if (value.startsWith('{')) return JSON.parse(value);
      process.stderr.write(`${value}\n`); // from libraries with verbose output
    }
  }
}

export const samplesPerSecond = (batch: number, { steps, seconds }: Timed) => (batch * steps) / seconds;
export const stepSeconds = ({ steps, seconds }: Timed) => seconds / steps;
