/** Runs with random faults, each compared with the same steps undisturbed. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { statFields, TICKS_PER_SECOND } from '../src/files/processes.js';
import { generator } from '../test/support/random.js';
import { availableKinds, type FaultKind } from './soak-faults.js';
import { Children, SoakRun } from './soak-run.js';

const WORKERS = 3;
/** Faults of one run: the pauses before a process is started again become longer with their number. */
const FAULTS_OF_RUN = 20;
/** Lines of a failed run that are printed; its folder has all. */
const TAIL_LINES = 200;
const SETTINGS = [
  'schedule.decay=constant',
  'checkpoint.every=15',
  'validation.every=10',
  'validation.bins=2',
];

interface PlannedFault {
  kind: FaultKind;
  /** In [0, 1). */
  who: number;
  waitMs: number;
  lastsMs: number;
  /** The next fault comes before this one is overcome. */
  follows: boolean;
}

export class Soak {
  readonly #faults: number;
  readonly #random: () => number;
  readonly #seed: number;
  readonly #deadline: number;
  readonly #print: (line: string) => void;
  readonly #begun = performance.now();
  readonly #root = mkdtempSync(join(tmpdir(), 'orchestrator-soak-'));
  readonly #children = new Children();
  readonly #kinds: readonly FaultKind[];
  /** Seconds from a fault to the next commit, by kind. */
  readonly #recoveries = new Map<string, number[]>();
  /** Seconds from the start of a coordinator that takes the place of another to its first commit. */
  readonly #returns: number[] = [];
  readonly #totals = { runs: 0, faults: 0, steps: 0, generations: 0, coordinators: 0, checkpoints: 0 };
  #started = 0;
  /** Faults of the runs that have started. */
  #planned = 0;

  constructor(faults: number, seed: number, minutes: number, print: (line: string) => void) {
    this.#faults = faults;
    this.#seed = seed;
    this.#random = generator(seed);
    this.#deadline = Date.now() + minutes * 60_000;
    this.#print = print;
    const { kinds, missing } = availableKinds();
    for (const reason of missing) print(`skipped: ${reason}`);
    this.#kinds = kinds;
    for (const { name } of kinds) this.#recoveries.set(name, []);
  }

  /**
   * @param jobs Runs that are disturbed at the same time.
   * @returns the exit code: 0, 1 if a run has failed, and 2 if the time is over before all faults.
   */
  async run(jobs: number): Promise<number> {
    await Promise.all(Array.from({ length: jobs }, () => this.#disturbRuns()));
    if (this.#children.isClosed) return 1;
    rmSync(this.#root, { recursive: true });
    const { faults } = this.#totals;
    if (faults >= this.#faults) return 0;
    this.#print(`the time is over after ${faults} of ${this.#faults} faults`);
    return 2;
  }

  /** Runs one after another, until all have had their faults or the time is over. */
  async #disturbRuns(): Promise<void> {
    while (!this.#children.isClosed && this.#planned < this.#faults && Date.now() < this.#deadline) {
      const count = Math.min(FAULTS_OF_RUN, this.#faults - this.#planned);
      this.#planned += count;
      const number = this.#started++;
      await this.#disturb(number, number % 2 === 0 ? 'shared' : 'grpc', count);
      if (!this.#children.isClosed) this.#report();
    }
  }

  #plan(count: number): PlannedFault[] {
    const below = (n: number) => Math.floor(this.#random() * n);
    return Array.from({ length: count }, () => ({
      kind: this.#kinds[below(this.#kinds.length)]!,
      who: this.#random(),
      waitMs: below(1_500),
      lastsMs: 200 + below(4_000),
      follows: this.#random() < 0.2,
    }));
  }

  /** One run with faults, and the same steps without. */
  async #disturb(number: number, exchange: string, count: number): Promise<void> {
    const runDir = join(this.#root, `run-${number}`);
    const plan = this.#plan(count);
    const words = [...SETTINGS, `exchange=${exchange}`].flatMap((set) => ['--set', set]);
    const endless = ['--set', 'schedule.steps=1000000', '--max-restarts', '1000000'];
    const run = new SoakRun(this.#children, runDir, WORKERS, [...words, ...endless]);
    try {
      await run.commits(1);
      for (const fault of plan) await this.#have(run, fault);
      await run.commits(2);
      run.process.kill('SIGTERM');
      const code = await run.code;
      if (code !== 143) throw new Error(`ended with exit code ${code}, not 143`);
      await run.leavesNothing();
      await this.#compare(run, words);
      rmSync(runDir, { recursive: true });
    } catch (error) {
      if (this.#children.isClosed) return;
      this.#children.close();
      const story = plan.map(
        ({ kind, waitMs, lastsMs }) => `${kind.name} after ${waitMs} ms (${lastsMs} ms)`,
      );
      const tail = run.printed.split('\n').slice(-TAIL_LINES).join('\n');
      this.#print(`${tail}\nfaults: ${story.join(', ')}`);
      this.#print(`seed ${this.#seed}, ${exchange}, ${runDir}: ${(error as Error).stack}`);
      run.process.kill('SIGKILL');
      await this.#children.end();
    }
  }

  async #have(run: SoakRun, { kind, who, waitMs, lastsMs, follows }: PlannedFault): Promise<void> {
    await sleep(waitMs);
    const [before, at] = [run.ledgerBytes, performance.now()];
    await kind.disturb(run, who, lastsMs);
    this.#totals.faults++;
    if (follows) return;
    await run.growsBeyond(before, kind.name);
    this.#recoveries.get(kind.name)!.push((performance.now() - at) / 1000);
    if (kind.name === 'coordinator kill') this.#returns.push(ageOf(run.coordinator!));
  }

  /** The same steps undisturbed must have the same losses, ledger and bits. */
  async #compare(run: SoakRun, words: readonly string[]): Promise<void> {
    const recorded = run.recorded();
    const steps = ['--set', `schedule.steps=${recorded.steps}`];
    const twin = new SoakRun(this.#children, `${run.runDir}-undisturbed`, 1, [...words, ...steps]);
    if ((await twin.code) !== 0) throw new Error(`the undisturbed run failed:\n${twin.printed}`);
    const [found, expected] = [run.bits(recorded.steps), twin.bits(recorded.steps)];
    for (const name of ['losses', 'ledger', 'files'] as const) {
      if (JSON.stringify(found[name]) !== JSON.stringify(expected[name])) throw new Error(`${name} differ`);
    }
    this.#totals.runs++;
    for (const name of ['steps', 'generations', 'coordinators', 'checkpoints'] as const)
      this.#totals[name] += recorded[name];
    rmSync(twin.runDir, { recursive: true });
  }

  #report(): void {
    const counts = Object.entries(this.#totals).map(([name, number]) => `${number} ${name}`);
    this.#print(`${counts.join(', ')} in ${((performance.now() - this.#begun) / 60_000).toFixed(1)} min`);
    const fromStart = ['coordinator kill, from its next start', this.#returns] as const;
    for (const [name, list] of [...this.#recoveries, fromStart]) {
      if (list.length === 0) continue;
      const [half, most, worst] = [0.5, 0.95, 1].map((share) => quantile(list, share).toFixed(2));
      const times = `${half} s (median), ${most} s (p95), ${worst} s (longest)`;
      this.#print(`  ${name}: ${list.length} times, next commit after ${times}`);
    }
  }
}

function quantile(values: readonly number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(share * values.length))]!;
}

/** Seconds since a process has started. */
function ageOf(pid: number): number {
  const [stat, up] = [readFileSync(`/proc/${pid}/stat`, 'utf8'), readFileSync('/proc/uptime', 'utf8')];
  return Number(up.split(' ')[0]) - Number(statFields(stat)[19]) / TICKS_PER_SECOND;
}
