/** Whole runs of `orchestrator launch`: one worker with all threads against one worker per thread. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Precision } from './engine.js';
import { NODES_SHARE } from './goals.js';
import { goal, median, milliseconds, percent, print, table } from './report.js';

/** Steps of a run, which takes longer than the window of a worker's event-loop percentile. */
const STEPS = 240;
const NODES = 2;

interface NodesRound {
  samplesPerSecond: number;
  /** Shares of a step's time: the exchange not hidden behind compute, and gathering rows, per thread. */
  exchange: number;
  gather: number;
  /** The worst worker's percentile over its last complete window of five seconds. */
  eventLoopP99Seconds: number;
}

interface StepLine {
  type: string;
  seconds: number;
  workers: {
    total_seconds: number;
    gather_seconds: number;
    compute_seconds: number;
    exchange_seconds: number;
    event_loop_p99_seconds: number;
  }[];
}

/** Steps at the start of a run that are not counted. */
const WARM_UP = 5;

/** Measures one worker with all threads against one worker per thread, alternating. */
export function benchNodes(rounds: number, precision: Precision | 'auto'): void {
  print(`\n## Whole runs: orchestrator launch, the demo's model, batch 64\n`);
  const cli =
    process.env.ORCHESTRATOR_CLI ?? fileURLToPath(new URL('../../../dist/cli/main.js', import.meta.url));
  const bench = new NodesBench(cli, precision);
  const one: NodesRound[] = [];
  const many: NodesRound[] = [];
  for (let i = 0; i < rounds; i++) {
    one.push(bench.run(1, NODES));
    many.push(bench.run(NODES, 1));
  }
  bench.close();
  const row = (name: string, all: NodesRound[]) => [
    name,
    median(all.map((r) => r.samplesPerSecond)).toFixed(0),
    percent(median(all.map((r) => r.exchange))),
    percent(median(all.map((r) => r.gather))),
    milliseconds(Math.max(...all.map((r) => r.eventLoopP99Seconds))),
  ];
  print(
    table(
      ['', 'samples/s', 'exchange', 'data loading', 'event-loop p99'],
      [row(`1 node, ${NODES} threads`, one), row(`${NODES} nodes, 1 thread each`, many)],
    ),
  );
  const share = median(
    many.map((round, i) => round.samplesPerSecond / (one[i] as NodesRound).samplesPerSecond),
  );
  print(`\n${NODES} nodes reach ${percent(share)} of one node's samples/s`);
  goal(`at least ${percent(NODES_SHARE)} of one node's samples/s`, share >= NODES_SHARE);
}

class NodesBench {
  readonly cli: string;
  readonly precision: Precision | 'auto';
  readonly #folder = mkdtempSync(join(tmpdir(), 'orchestrator-bench-'));
  #runs = 0;

  constructor(cli: string, precision: Precision | 'auto') {
    this.cli = cli;
    this.precision = precision;
    this.#command([
      'dataset',
      'shapes',
      '--out',
      join(this.#folder, 'data'),
      '--count',
      '2048',
      '--seed',
      '0',
    ]);
  }

  /** The demo's model (configs/shapes-cpu.yaml), batch 64 in two slots. */
  run(nodes: number, threads: number): NodesRound {
    const runDir = join(this.#folder, `run-${this.#runs++}`);
    const config = join(this.#folder, 'bench.yaml');
    writeFileSync(
      config,
      [
        'name: bench',
        `data: {path: ${JSON.stringify(join(this.#folder, 'data'))}, validation_rows: 0}`,
        'model: {depth: 4, hidden: 192}',
        'batch: {global: 64, micro: 32}',
        `schedule: {steps: ${STEPS}, warmup: 0}`,
        `threads: ${threads}`,
        `precision: {compute: ${this.precision}}`,
        'validation: {every: 0}',
        'telemetry: {attention_every: 0, metrics_port: null}',
        `checkpoint: {every: ${STEPS}, keep: 1}`,
        '',
      ].join('\n'),
    );
    this.#command(['launch', config, '--nodes', String(nodes), '--run-dir', runDir, '--resume', 'never']);
    const lines = readFileSync(join(runDir, 'metrics.jsonl'), 'utf8').trim().split('\n');
    const steps = lines.map((line) => JSON.parse(line) as StepLine).filter(({ type }) => type === 'step');
    const timed = steps.slice(WARM_UP, -1); // the last one waits for the checkpoint
    const workers = timed.flatMap((step) => step.workers);
    const sum = (of: (worker: StepLine['workers'][number]) => number) =>
      workers.reduce((total, worker) => total + of(worker), 0);
    const seconds = timed.reduce((total, step) => total + step.seconds, 0);
    return {
      samplesPerSecond: (64 * timed.length) / seconds,
      exchange: sum((w) => w.exchange_seconds) / sum((w) => w.total_seconds),
      gather: sum((w) => w.gather_seconds) / sum((w) => w.gather_seconds + w.compute_seconds),
      eventLoopP99Seconds: Math.max(...(timed.at(-1)?.workers ?? []).map((w) => w.event_loop_p99_seconds)),
    };
  }

  close(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #command(args: string[]): void {
    const { status, stderr, stdout } = spawnSync(process.execPath, [this.cli, ...args], { encoding: 'utf8' });
    if (status !== 0)
      throw new Error(`orchestrator ${args.join(' ')} ended with ${status}:\n${stdout}${stderr}`);
  }
}
