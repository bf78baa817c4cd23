/** Processes of workers that are started early, while hosts are asked and the coordinator starts: they wait for their credential. */
import { type Child, Lines, signalGroup } from './children.js';
import type { Launcher } from './launcher.js';
import { type LaunchOptions, type ProcessSpec, type RunHost, workerProcesses } from './processes.js';

/** More workers of a host than these are not started at the same time: ssh servers refuse more than 10 such logins. */
const AT_ONCE = 8;

interface Opened {
  child: Child;
  /** Node.js throws away what a process that has ended has printed, unless somebody listens from its start. */
  lines: Lines;
}

export class OpenedWorkers {
  readonly #launcher: Launcher;
  /** By the number of the worker. */
  readonly #opened = new Map<number, Opened>();
  readonly #onStarted: (child: Child, spec: ProcessSpec) => void;

  /** @param onStarted A process was started: a worker's, or one that stands for it here. */
  constructor(launcher: Launcher, onStarted: (child: Child, spec: ProcessSpec) => void) {
    this.#launcher = launcher;
    this.#onStarted = onStarted;
  }

  /** Starts them. One that cannot be started is tried again when there is a coordinator, which tells why it fails. */
  async openAll(run: LaunchOptions): Promise<void> {
    // It takes a tenth of a second to load.
    if (run.network !== null) void import('../rpc/invite.js').catch(() => {});
    const counts = new Map<RunHost, number>();
    for (const [index, spec] of workerProcesses(run).entries()) {
      const count = counts.get(spec.host) ?? 0;
      counts.set(spec.host, count + 1);
      if (count < AT_ONCE) await this.#open(index, spec).catch(() => {});
    }
  }

  /** Takes the process that waits, or starts one, and gives it what it waits for. */
  async start(index: number, spec: ProcessSpec, input: () => Promise<string>): Promise<Opened> {
    if (!this.#opened.has(index)) await this.#open(index, spec);
    const opened = this.#opened.get(index)!;
    try {
      opened.child.process.stdin!.end(await input());
    } catch (error) {
      this.drop(index);
      throw error;
    }
    this.#opened.delete(index);
    return opened;
  }

  /** One that waits is not needed. */
  drop(index: number): void {
    const opened = this.#opened.get(index);
    this.#opened.delete(index);
    if (opened !== undefined) signalGroup(opened.child, 'SIGKILL');
  }

  dropAll(): void {
    for (const index of [...this.#opened.keys()]) this.drop(index);
  }

  async #open(index: number, spec: ProcessSpec): Promise<void> {
    const child = await this.#launcher.start(spec);
    this.#opened.set(index, { child, lines: new Lines(child) });
    this.#onStarted(child, spec);
  }
}
