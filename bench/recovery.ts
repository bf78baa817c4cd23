/** Workers of a run that die and come again: how soon that is noticed, and how long the others wait for it. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { generationsOf, linesOf } from '../test/support/run-records.js';
import { RECOVERY } from './goals.js';
import { goal, median, milliseconds, print, table } from './report.js';

const WORKERS = 3;
const POLL_MS = 2;
/** What is waited for takes seconds. */
const MOST_MS = 300_000;
/** A worker is killed only while the run goes on undisturbed. */
const UNDISTURBED_STEPS = 6;

/** In seconds. */
interface Recovery {
  /** From the kill to the end of the process, when its connections have ended; the kernel frees its memory first. */
  ended: number;
  /** From there to the line of the next generation in the journal. */
  noticed: number;
  /** From the kill to the next commit. */
  committed: number;
  /** How much longer than other steps that took in which the worker had a place again. */
  stalled: number;
  step: number;
}

/** @param rounds How many workers are killed, one after another. */
export async function benchRecovery(rounds: number): Promise<void> {
  print(`\n## A worker is killed and comes again: the demo's model, ${WORKERS} workers of one thread\n`);
  const folder = mkdtempSync(join(tmpdir(), 'orchestrator-bench-'));
  const all: [string, Recovery[]][] = [];
  try {
    for (const exchange of ['shared', 'grpc']) all.push([exchange, await killed(folder, exchange, rounds)]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const [middle, worst] = [median, (values: number[]) => Math.max(...values)];
  const cell = (of: Recovery[], key: keyof Recovery) => {
    const values = of.map((one) => one[key]);
    return `${milliseconds(middle(values))} (${milliseconds(worst(values))})`;
  };
  const keys = ['ended', 'noticed', 'committed', 'stalled', 'step'] as const;
  const header = [
    'median (longest)',
    'kill to end of process',
    'end to next generation',
    'kill to next commit',
    'others stalled for the joiner',
    'a step',
  ];
  print(table(header, [...all.map(([name, of]) => [name, ...keys.map((key) => cell(of, key))])]));
  const most = (key: keyof Recovery) => worst(all.flatMap(([, of]) => of.map((one) => one[key])));
  const { noticed, committed, stalled } = RECOVERY;
  goal(`a loss is noticed within ${milliseconds(noticed)}`, most('noticed') < noticed);
  goal(`the next commit is within ${milliseconds(committed)}`, most('committed') < committed);
  goal(`a joiner stalls the others for less than ${milliseconds(stalled)}`, most('stalled') < stalled);
}

async function killed(folder: string, exchange: string, rounds: number): Promise<Recovery[]> {
  const run = new BenchRun(folder, exchange);
  const recoveries: Recovery[] = [];
  try {
    for (let i = 0; i < rounds; i++) {
      await run.generationOf(WORKERS);
      const from = run.commits.length;
      await run.until(() => run.commits.length >= from + UNDISTURBED_STEPS);
      const gaps = run.commits.slice(from + 1).map((at, j) => at - run.commits[from + j]!);
      const step = median(gaps) / 1e3;
      const generation = run.generations.length;
      const pid = run.generations.at(-1)!.pids[1 + (i % (WORKERS - 1))]!;
      process.kill(pid, 'SIGKILL');
      const at = Date.now();
      await run.until(() => hasEnded(pid));
      const ended = Date.now();
      await run.until(() => run.generations.length > generation);
      const noticed = run.generations[generation]!.formed;
      const committed = run.commits.length;
      await run.until(() => run.commits.length > committed);
      await run.generationOf(WORKERS);
      const again = run.generations.at(-1)!;
      const index = run.commits.findLastIndex((time) => time <= again.formed);
      await run.until(() => run.commits.length > index + 1);
      recoveries.push({
        ended: (ended - at) / 1e3,
        noticed: (noticed - ended) / 1e3,
        committed: (run.commits[committed]! - at) / 1e3,
        stalled: (run.commits[index + 1]! - run.commits[index]!) / 1e3 - step,
        step,
      });
    }
  } finally {
    await run.stop();
  }
  return recoveries;
}

/** A run whose records are read all the time. */
class BenchRun {
  /** When each step was seen to be committed, and the generations that have formed, in milliseconds. */
  readonly commits: number[] = [];
  readonly generations: { formed: number; pids: number[] }[] = [];
  readonly #runDir: string;
  readonly #process: ChildProcess;

  constructor(folder: string, exchange: string) {
    const cli =
      process.env.ORCHESTRATOR_CLI ?? fileURLToPath(new URL('../../../dist/cli/main.js', import.meta.url));
    const data = join(folder, 'data');
    const made = ['dataset', 'shapes', '--out', data, '--count', '2048', '--seed', '0'];
    if (!existsSync(data))
      execFileSync(process.execPath, [cli, ...made], { stdio: ['ignore', 'ignore', 'inherit'] });
    this.#runDir = join(folder, exchange);
    const config = join(folder, `${exchange}.yaml`);
    const lines = [
      'name: bench',
      `data: {path: ${JSON.stringify(data)}, validation_rows: 0}`,
      'model: {depth: 4, hidden: 192}',
      'batch: {global: 48, micro: 16}',
      'schedule: {steps: 1000000, warmup: 0}',
      'threads: 1',
      `exchange: ${exchange}`,
      'validation: {every: 0}',
      'telemetry: {attention_every: 0, metrics_port: null}',
      'checkpoint: {every: 0}',
      '',
    ];
    writeFileSync(config, lines.join('\n'));
    const restarts = ['--max-restarts', '1000'];
    const launch = ['launch', config, '--nodes', String(WORKERS), '--run-dir', this.#runDir, ...restarts];
    this.#process = spawn(process.execPath, [cli, ...launch], { stdio: ['ignore', 'ignore', 'inherit'] });
  }

  async until(isThere: () => boolean): Promise<void> {
    const end = performance.now() + MOST_MS;
    while (performance.now() < end) {
      this.#read();
      if (isThere()) return;
      const { exitCode, signalCode } = this.#process;
      if ((exitCode ?? signalCode) !== null) throw new Error(`the run ended with ${exitCode ?? signalCode}`);
      await sleep(POLL_MS);
    }
    throw new Error(`the run has not got on for ${MOST_MS / 1e3} s`);
  }

  generationOf(workers: number): Promise<void> {
    return this.until(() => this.generations.at(-1)?.pids.length === workers);
  }

  async stop(): Promise<void> {
    if ((this.#process.exitCode ?? this.#process.signalCode) !== null) return;
    this.#process.kill('SIGTERM');
    await once(this.#process, 'exit');
  }

  #read(): void {
    const steps = linesOf(join(this.#runDir, 'ledger.jsonl')).length;
    while (this.commits.length < steps) this.commits.push(Date.now());
    const generations = generationsOf(this.#runDir);
    for (const { unix_seconds: at, workers } of generations.slice(this.generations.length)) {
      this.generations.push({ formed: 1e3 * at, pids: workers.map(({ pid }) => pid) });
    }
  }
}

/** Whether all threads of a process have ended; its parent may not have asked for its exit code. */
function hasEnded(pid: number): boolean {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return /^State:\s+[ZX]/m.test(status) && /^Threads:\s+1$/m.test(status);
  } catch {
    return true;
  }
}
