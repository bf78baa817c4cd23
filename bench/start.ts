/**
 * The start of a run, up to its first step: the time that passes, that of the processors in all of its processes, and
 * the time in which none of them had anything to do for a processor, which other work on the machine does not lengthen.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { statFields, TICKS_PER_SECOND } from '../src/files/processes.js';
import { noHosts, TestHosts } from '../test/support/hosts.js';
import { needs } from '../test/support/needs.js';
import { TestSshd } from '../test/support/sshd.js';
import { START } from './goals.js';
import { goal, median, print, table } from './report.js';

const FIRST_STEP = /\bstep 1\//;

/** Time between two looks at what the processes do. */
const LOOK_MS = 3;

/** In seconds. */
interface Start {
  wall: number;
  processor: number;
  /** In which no thread of a process ran, or waited for a processor. */
  waiting: number;
}

/** Where a run is started: options of `launch`, and what is before its command. */
interface Way {
  name: string;
  before: readonly string[];
  environment: Record<string, string>;
  options: readonly string[];
}

/** Alternates between two workers of this machine, and one here and one that ssh starts, in network namespaces. */
export async function benchStart(rounds: number): Promise<void> {
  print("\n## The start of a run of the demo's model with two workers, up to the end of its first step\n");
  const missing = noHosts() ?? needs('sshd') ?? needs('ssh');
  if (missing !== null) print(`not over ssh: ${missing}\n`);
  const folder = mkdtempSync(join(tmpdir(), 'orchestrator-bench-'));
  const hosts = missing === null ? TestHosts.switched() : null;
  const sshd = hosts === null ? null : new TestSshd(join(folder, 'ssh'));
  try {
    const ways: Way[] = [
      { name: 'on one machine', before: [], environment: {}, options: ['--nproc-per-node', '2'] },
    ];
    const runs = join(folder, 'runs');
    mkdirSync(runs);
    if (hosts !== null && sshd !== null) {
      await sshd.serve(hosts.on(2, runs), 22);
      const options = ['--hosts', `localhost,${hosts.address(2)}`];
      ways.push({ name: 'over ssh', before: hosts.on(1), environment: { PATH: sshd.path }, options });
    }
    const bench = new StartBench(folder, runs);
    const starts = new Map<Way, Start[]>(ways.map((way) => [way, []]));
    // The first one reads the programs from the disk.
    for (const way of ways) await bench.start(way);
    for (let i = 0; i < rounds; i++) for (const way of ways) starts.get(way)!.push(await bench.start(way));
    report(starts);
  } finally {
    sshd?.close();
    hosts?.remove();
    rmSync(folder, { recursive: true, force: true });
  }
}

function report(all: ReadonlyMap<Way, Start[]>): void {
  const cell = (values: number[]) =>
    `${median(values).toFixed(2)} (${Math.min(...values).toFixed(2)} to ${Math.max(...values).toFixed(2)}) s`;
  const rows = [...all].map(([{ name }, starts]) => [
    name,
    cell(starts.map(({ wall }) => wall)),
    cell(starts.map(({ processor }) => processor)),
    cell(starts.map(({ waiting }) => waiting)),
  ]);
  print(table(['median (range)', 'time', 'processor time of all processes', 'nothing to compute'], rows));
  print();
  for (const [{ name }, starts] of all) {
    const over = median(starts.map(({ wall, processor }) => wall - processor));
    const idle = median(starts.map(({ waiting }) => waiting));
    const { overProcessorTime, nothingToCompute } = START;
    goal(`${name} at most ${overProcessorTime} s more than the processor time`, over <= overProcessorTime);
    goal(`${name} at most ${nothingToCompute} s with nothing to compute`, idle <= nothingToCompute);
  }
}

class StartBench {
  readonly #cli =
    process.env.ORCHESTRATOR_CLI ?? fileURLToPath(new URL('../../../dist/cli/main.js', import.meta.url));
  readonly #runs: string;
  readonly #config: string;
  #count = 0;

  constructor(folder: string, runs: string) {
    this.#runs = runs;
    this.#config = join(folder, 'bench.yaml');
    const data = join(folder, 'data');
    const made = ['dataset', 'shapes', '--out', data, '--count', '2048', '--seed', '0'];
    const { status, stderr } = spawnSync(process.execPath, [this.#cli, ...made], { encoding: 'utf8' });
    if (status !== 0) throw new Error(stderr);
    const lines = [
      'name: bench',
      `data: {path: ${JSON.stringify(data)}, validation_rows: 0}`,
      'model: {depth: 4, hidden: 192}',
      'batch: {global: 64, micro: 32}',
      'schedule: {steps: 3, warmup: 0}',
      'threads: 1',
      'validation: {every: 0}',
      '',
    ];
    writeFileSync(this.#config, lines.join('\n'));
  }

  async start({ before, environment, options }: Way): Promise<Start> {
    const runDir = join(this.#runs, String(++this.#count));
    const launch = [process.execPath, this.#cli, 'launch', this.#config, '--run-dir', runDir, ...options];
    const [file, ...words] = [...before, ...launch] as [string, ...string[]];
    const [processor, at] = [processorSeconds(), performance.now()];
    const run = spawn(file, words, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...environment },
    });
    let output = '';
    let started: Start | null = null;
    let [looked, waiting] = [at, 0];
    const looks = setInterval(() => {
      const now = performance.now();
      if (!isAnyRunnable()) waiting += now - looked;
      looked = now;
    }, LOOK_MS);
    for (const stream of [run.stdout, run.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
        if (started !== null || !FIRST_STEP.test(output)) return;
        const wall = (performance.now() - at) / 1e3;
        clearInterval(looks);
        started = { wall, processor: processorSeconds() - processor, waiting: waiting / 1e3 };
      });
    }
    const [code] = await once(run, 'close');
    clearInterval(looks);
    if (code !== 0 || started === null) throw new Error(`launch ended with ${code}:\n${output}`);
    return started;
  }
}

/** Whether a thread of a process below this one runs, or waits for a processor. */
function isAnyRunnable(): boolean {
  const left = childrenOf(process.pid);
  for (let pid = left.pop(); pid !== undefined; pid = left.pop()) {
    for (const thread of namesIn(`/proc/${pid}/task`)) {
      if (statFields(textOf(`/proc/${pid}/task/${thread}/stat`))[0] === 'R') return true;
    }
    left.push(...childrenOf(pid));
  }
  return false;
}

/** Those that the main thread has started, as Node.js and ssh do. */
function childrenOf(pid: number): number[] {
  return (textOf(`/proc/${pid}/task/${pid}/children`) ?? '').split(' ').filter(Boolean).map(Number);
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Null: its process has ended meanwhile. */
function textOf(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}

/** Processor time of all processes below this one, those that have ended included. */
function processorSeconds(): number {
  const all = readdirSync('/proc').flatMap((name) => (/^\d+$/.test(name) ? (statOf(name) ?? []) : []));
  let [level, ticks] = [[process.pid], 0];
  while (level.length > 0) {
    const here = new Set(level);
    for (const { pid, own, ended } of all) {
      if (here.has(pid)) ticks += ended + (pid === process.pid ? 0 : own);
    }
    level = all.filter(({ parent }) => here.has(parent)).map(({ pid }) => pid);
  }
  return ticks / TICKS_PER_SECOND;
}

/** In ticks, what a process has used itself, and those of its children that have ended. */
function statOf(name: string): { pid: number; parent: number; own: number; ended: number } | null {
  const text = textOf(`/proc/${name}/stat`);
  if (text === null) return null;
  const fields = statFields(text).map(Number);
  const [parent, user, system, endedUser, endedSystem] = [1, 11, 12, 13, 14].map((i) => fields[i]!);
  return { pid: Number(name), parent: parent!, own: user! + system!, ended: endedUser! + endedSystem! };
}
