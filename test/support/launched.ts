/** A run of the compiled program, watched from outside. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { MAIN, withoutTimes } from './program.js';
import { coordinatorOf, workersOf } from './run-records.js';

/** The configuration of the runs. */
export const TRAINING = 'test/integration/training.yaml';

export interface Outcome {
  code: number | null;
  signal: NodeJS.Signals | null;
  output: string;
}

/** From where a run is launched. */
export interface Whence {
  /** What runs a command on a host, in the end by exec. */
  before: readonly string[];
  /** Beside the environment of the tests. */
  env: NodeJS.ProcessEnv;
}

const HERE: Whence = { before: [], env: {} };

/** Those whose processes may still run. */
const launched = new Set<Launched>();

/** A test that fails before its run has ended leaves processes: none outlives its test. */
export function endLaunched(): void {
  for (const run of launched) run.kill();
  launched.clear();
}

export class Launched {
  readonly process: ChildProcess;
  readonly outcome: Promise<Outcome>;
  readonly runDir: string;
  /** As it was printed, with the time before each line. */
  printed = '';

  /** @param nodes Their number, or MIN:MAX; or where the run is launched. */
  constructor(runDir: string, nodes: number | string | Whence, ...more: string[]) {
    this.runDir = runDir;
    const { before, env } = typeof nodes === 'object' ? nodes : HERE;
    const count = typeof nodes === 'object' ? [] : ['--nodes', String(nodes)];
    const command = [MAIN, 'launch', TRAINING, ...count, '--run-dir', runDir, ...more];
    const [file, ...words] = [...before, process.execPath, ...command] as [string, ...string[]];
    this.process = spawn(file, words, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    });
    launched.add(this);
    for (const stream of [this.process.stdout, this.process.stderr]) {
      stream?.setEncoding('utf8');
      stream?.on('data', (text: string) => {
        this.printed += text;
      });
    }
    this.outcome = new Promise((resolve) => {
      this.process.once('close', (code, signal) => resolve({ code, signal, output: this.output }));
    });
  }

  /** Without the times. */
  get output(): string {
    return withoutTimes(this.printed);
  }

  /** Resolves when the output has this text. */
  says(text: string): Promise<void> {
    return this.#comes(`the text "${text}"`, () => this.output.includes(text));
  }

  /** Resolves when this many steps have been committed. */
  steps(count: number): Promise<void> {
    return this.#comes(`${count} steps`, () => this.stepsDone() >= count);
  }

  stepsDone(): number {
    return (this.output.match(/^step /gm) ?? []).length;
  }

  async #comes(what: string, isThere: () => boolean): Promise<void> {
    while (!isThere()) {
      if (this.process.exitCode !== null) throw new Error(`ended without ${what}:\n${this.output}`);
      await sleep(5);
    }
  }

  /** Workers by rank, from the journal's last generation. */
  workers(): number[] {
    return workersOf(this.runDir).map(({ pid }) => pid);
  }

  /** Kills all its processes: the launcher first, which would start workers again. */
  kill(): void {
    const { pid, exitCode, signalCode } = this.process;
    const runs = pid !== undefined && exitCode === null && signalCode === null;
    if (runs) this.process.kill('SIGSTOP');
    const own = runs ? [pid, ...childrenOf(pid)] : [];
    // Without a launcher they have lost their parent.
    const coordinator = coordinatorOf(this.runDir);
    const known = coordinator === null ? [] : [coordinator, ...this.workers()];
    // The number of a process that has ended may be another's by now.
    for (const one of [...own, ...known]) if (commandOf(one).includes(MAIN)) process.kill(one, 'SIGKILL');
  }

  coordinator(): number {
    const pid = coordinatorOf(this.runDir);
    if (pid === null) throw new Error(`no process holds ${this.runDir}`);
    return pid;
  }
}

/** Waits for the end, which must have this exit code; what the run printed is in the failure. */
export async function ends(outcome: Promise<Outcome>, code: number): Promise<Outcome> {
  const ended = await outcome;
  expect(ended.code, ended.output).toBe(code);
  return ended;
}

/** Runs to the end. */
export function launch(runDir: string, nodes: number | Whence, ...more: string[]): Promise<Outcome> {
  return new Launched(runDir, nodes, ...more).outcome;
}

/** The exit code as a shell has it. */
export function exitCodeOf({ code, signal }: Outcome): number {
  return code ?? 128 + constants.signals[signal as NodeJS.Signals];
}

/** The processes that a process has started. */
export function childrenOf(pid: number): number[] {
  const path = `/proc/${pid}/task/${pid}/children`;
  const text = existsSync(path) ? readFileSync(path, 'utf8') : '';
  return text.split(' ').filter(Boolean).map(Number);
}

/** The command line of a process; empty if it has ended. */
export function commandOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
  } catch {
    return [];
  }
}

/** The environment that a process was started with. */
export function environmentOf(pid: number): Record<string, string> {
  const lines = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').slice(0, -1);
  return Object.fromEntries(lines.map((line) => line.split(/=(.*)/s, 2)));
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  // A zombie whose parent has not looked yet is dead.
  const stat = existsSync(`/proc/${pid}/stat`) ? readFileSync(`/proc/${pid}/stat`, 'utf8') : '';
  return !/\) Z /.test(stat);
}

/** Whether a process is stopped, as by SIGSTOP. */
export function isSuspended(pid: number): boolean {
  return /\) T /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
}

/** Whether a signal has been sent to a process that has not taken it, because it is stopped. */
export function isPending(pid: number, signal: NodeJS.Signals): boolean {
  const masks = readFileSync(`/proc/${pid}/status`, 'utf8').matchAll(/^(?:Sig|Shd)Pnd:\s*([0-9a-f]+)$/gm);
  const bit = 1n << BigInt(constants.signals[signal] - 1);
  return [...masks].some(([, mask]) => (BigInt(`0x${mask}`) & bit) !== 0n);
}

/** Waits until the processes are gone; false if they stay. */
export async function allDead(pids: readonly number[]): Promise<boolean> {
  const end = Date.now() + 60_000;
  while (pids.some(isAlive) && Date.now() < end) await sleep(10);
  return !pids.some(isAlive);
}

export function readLines(path: string): Record<string, unknown>[] {
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

/**
 * What the promise is about: losses, validation and ledger of every step, and the bits of the final state.
 */
export function fingerprint(runDir: string, step: number): Record<string, unknown> {
  const metrics = readLines(join(runDir, 'metrics.jsonl'));
  const checkpoint = join(runDir, 'checkpoints', `step-${String(step).padStart(8, '0')}`);
  const sha256 = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');
  return {
    losses: metrics
      .filter(({ type }) => type === 'step')
      .map(({ step, loss, gradient_norm }) => [step, loss, gradient_norm]),
    blockNorms: metrics.flatMap(({ step, gradient_norms }) =>
      gradient_norms ? [[step, gradient_norms]] : [],
    ),
    validation: metrics
      .filter(({ type }) => type === 'validation')
      .map(({ seconds, unix_seconds, ...losses }) => {
        expect(unix_seconds).toBeGreaterThan(1.7e9);
        expect(seconds).toBeGreaterThan(0);
        return losses;
      }),
    ledger: readLines(join(runDir, 'ledger.jsonl')),
    model: sha256(join(checkpoint, 'model.safetensors')),
    ema: sha256(join(checkpoint, 'ema.safetensors')),
    optimizer: sha256(join(checkpoint, 'optimizer.safetensors')),
  };
}
