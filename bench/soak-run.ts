/** A run of the compiled program that a soak disturbs, or with which it compares. */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { coordinatorOf, generationsOf, recordsOf, workersOf } from '../test/support/run-records.js';

const MAIN = 'dist/cli/main.js';
const CONFIG = 'test/integration/training.yaml';
/** A run that has not committed a step for so long hangs. */
const HANGS_MS = 300_000;
/** A worker that joins a run which has just ended gives up after 30 s. */
export const LEFT_MS = 60_000;

/** The launchers and joined workers of a soak that have not ended. */
export class Children {
  readonly #running = new Set<ChildProcess>();
  #isOver = false;

  /** A process of this program, which is ended with it. */
  start(words: readonly string[], stdio: StdioOptions): ChildProcess {
    if (this.#isOver) throw new Error('another run has failed');
    const child = spawn(process.execPath, [MAIN, ...words], { stdio });
    this.#running.add(child);
    child.once('exit', () => this.#running.delete(child));
    return child;
  }

  /** From now on nothing is started. */
  close(): void {
    this.#isOver = true;
  }

  get isClosed(): boolean {
    return this.#isOver;
  }

  /** Ends all of them: in order, or else at once. */
  async end(): Promise<void> {
    for (const child of this.#running) child.kill('SIGTERM');
    for (const end = performance.now() + LEFT_MS; this.#running.size > 0 && performance.now() < end; )
      await sleep(50);
    for (const child of this.#running) child.kill('SIGKILL');
  }
}

/** What is recorded of a run that has ended. */
export interface Recorded {
  steps: number;
  generations: number;
  coordinators: number;
  checkpoints: number;
}

export class SoakRun {
  readonly runDir: string;
  readonly process: ChildProcess;
  /** The exit code, or the signal. */
  readonly code: Promise<number | NodeJS.Signals | null>;
  printed = '';
  readonly #children: Children;
  /** Workers that no launcher has started. */
  readonly #joined = new Set<number>();

  /** @param words Further ones of `launch`. */
  constructor(children: Children, runDir: string, workers: number, words: readonly string[]) {
    this.runDir = runDir;
    this.#children = children;
    const command = ['launch', CONFIG, '--nproc-per-node', String(workers), '--run-dir', runDir];
    this.process = children.start([...command, ...words], ['ignore', 'pipe', 'pipe']);
    for (const stream of [this.process.stdout!, this.process.stderr!]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.printed += text;
      });
    }
    this.code = new Promise((resolve) =>
      this.process.once('close', (code, signal) => resolve(code ?? signal)),
    );
  }

  /** The workers of the last generation, by rank. */
  get workers(): { id: string; pid: number }[] {
    return workersOf(this.runDir);
  }

  get coordinator(): number | null {
    return coordinatorOf(this.runDir);
  }

  /** Starts a worker that joins the run. */
  join(): void {
    const { pid } = this.#children.start(['worker', '--join', this.runDir], 'ignore');
    if (pid !== undefined) this.#joined.add(pid);
  }

  /** Grows with every step that is committed. */
  get ledgerBytes(): number {
    const path = join(this.runDir, 'ledger.jsonl');
    return existsSync(path) ? statSync(path).size : 0;
  }

  /** Resolves when a step more is committed than when the ledger had so many bytes. */
  async growsBeyond(bytes: number, why: string): Promise<void> {
    const end = performance.now() + HANGS_MS;
    while (this.ledgerBytes <= bytes) {
      if ((this.process.exitCode ?? this.process.signalCode) !== null)
        throw new Error(`it ended after: ${why}`);
      if (performance.now() > end)
        throw new Error(`no step was committed for ${HANGS_MS / 1000} s after: ${why}`);
      await sleep(10);
    }
  }

  async commits(steps: number): Promise<void> {
    for (let i = 0; i < steps; i++) await this.growsBeyond(this.ledgerBytes, 'commits');
  }

  /** Throws if the run, which has ended, has left a process or an unfinished file. */
  async leavesNothing(): Promise<void> {
    const all = [
      ...this.#joined,
      ...generationsOf(this.runDir).flatMap(({ workers }) => workers.map(({ pid }) => pid)),
    ];
    for (const end = performance.now() + LEFT_MS; all.some(lives) && performance.now() < end; )
      await sleep(50);
    if (all.some(lives)) throw new Error(`processes are left: ${all.filter(lives)}`);
    const left = readdirSync(join(this.runDir, 'checkpoints')).filter((name) => !/^step-\d{8}$/.test(name));
    if (left.length > 0 || existsSync(join(this.runDir, 'lock'))) throw new Error(`files are left: ${left}`);
  }

  recorded(): Recorded {
    const generations = generationsOf(this.runDir);
    const metrics = recordsOf<{ type: string }>(join(this.runDir, 'metrics.jsonl'));
    return {
      steps: recordsOf<{ step: number }>(join(this.runDir, 'ledger.jsonl')).at(-1)!.step,
      generations: generations.length,
      coordinators: generations.at(-1)!.coordinator_restarts,
      checkpoints: metrics.filter(({ type }) => type === 'checkpoint').length,
    };
  }

  /** Losses, ledger and the bits of the state after this step. */
  bits(step: number) {
    const folder = `step-${String(step).padStart(8, '0')}`;
    const metrics = recordsOf<Record<string, unknown>>(join(this.runDir, 'metrics.jsonl'));
    return {
      losses: metrics.flatMap(({ type, step, loss, gradient_norm }) =>
        type === 'step' ? [[step, loss, gradient_norm]] : [],
      ),
      ledger: recordsOf(join(this.runDir, 'ledger.jsonl')),
      files: ['model', 'ema', 'optimizer'].map((name) => {
        const file = readFileSync(join(this.runDir, 'checkpoints', folder, `${name}.safetensors`));
        return createHash('sha256').update(file).digest('hex');
      }),
    };
  }
}

/** Whether it is a process of this program. */
export function lives(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(MAIN);
  } catch {
    return false;
  }
}
