/** How far the runs of a study are, and how long the rest takes. */

import { join } from 'node:path';
import { LEDGER } from '../coordinator/run-dir.js';
import { lastStep } from '../files/jsonl-seek.js';
import type { StudyRun } from './expand.js';
import type { RunState, StudyFolder } from './folder.js';
import { remainingSeconds } from './schedule.js';

export interface StudyProgress {
  /** Runs that are complete, and all of them. */
  done: number;
  total: number;
  /** "photos.rf.seed-0 (step 400/900)" */
  running: string[];
  seconds: number;
  remaining: number | null;
}

/** A run in progress. */
export interface Current {
  run: StudyRun;
  part: 'training' | 'scoring';
  /** When this part began, by the clock of `performance`. */
  since: number;
  /** How much of the scoring is done, from 0 to 1. */
  scored: number;
}

/** Share of a run's time that its training takes, before any run of the study has been measured. */
const TRAINING_SHARE = 0.7;

export class Tally {
  readonly failed: string[] = [];
  readonly #folder: StudyFolder;
  readonly #runs: readonly StudyRun[];
  readonly #states: Map<string, RunState>;
  readonly #evaluated: boolean;
  readonly #current = new Set<Current>();
  readonly #started = performance.now();
  /** What was done of each run at the start, as a part of it. */
  readonly #before: ReadonlyMap<string, number>;
  /** Seconds of the runs that were trained and scored in one go. */
  readonly #measured = { training: 0, scoring: 0 };

  /**
   * @param states of all runs, by name.
   * @param evaluated whether runs are scored; otherwise they are complete once they are trained.
   */
  constructor(
    folder: StudyFolder,
    runs: readonly StudyRun[],
    states: ReadonlyMap<string, RunState>,
    evaluated: boolean,
  ) {
    this.#folder = folder;
    this.#runs = runs;
    this.#states = new Map(states);
    this.#evaluated = evaluated;
    this.#before = new Map(runs.map((run) => [run.name, this.#work(run)]));
  }

  get seconds(): number {
    return (performance.now() - this.#started) / 1000;
  }

  get done(): number {
    return this.#runs.filter(({ name }) => this.state(name) === 'scored').length;
  }

  get open(): StudyRun[] {
    return this.#runs.filter(({ name }) => this.state(name) !== 'scored');
  }

  state(name: string): RunState {
    return this.#states.get(name)!;
  }

  begin(run: StudyRun): Current {
    const current: Current = { run, part: 'training', since: performance.now(), scored: 0 };
    this.#current.add(current);
    return current;
  }

  end(current: Current): void {
    this.#current.delete(current);
  }

  trained(name: string): void {
    this.#states.set(name, this.#evaluated ? 'trained' : 'scored');
  }

  /** @param trainingSeconds null if the run was trained before, or in parts. */
  scored(name: string, trainingSeconds: number | null, scoringSeconds: number): void {
    this.#states.set(name, 'scored');
    if (trainingSeconds === null) return;
    this.#measured.training += trainingSeconds;
    this.#measured.scoring += scoringSeconds;
  }

  progress(): StudyProgress {
    const { seconds, done } = this;
    // What a failed run has done is not waited for, and brings nobody nearer to the end.
    const awaited = this.#runs.filter(({ name }) => !this.failed.includes(name));
    const sum = (work: (run: StudyRun) => number) => awaited.reduce((total, run) => total + work(run), 0);
    const before = sum(({ name }) => this.#before.get(name)!);
    const now = sum((run) => this.#work(run));
    return {
      ...{ done, total: this.#runs.length, seconds },
      running: [...this.#current].map((current) => this.#describe(current)),
      remaining: remainingSeconds(seconds, before, now, awaited.length),
    };
  }

  #describe({ run: { name, config }, part, scored }: Current): string {
    if (part === 'scoring') return `${name} (scoring, ${(100 * scored).toFixed(0)} %)`;
    return `${name} (step ${this.#step(name)}/${config.schedule.steps})`;
  }

  #step(name: string): number {
    return lastStep(join(this.#folder.runDir(name), LEDGER));
  }

  /** What is done of a run, from 0 to 1. */
  #work({ name, config }: StudyRun): number {
    const { training, scoring } = this.#measured;
    const measured = training === 0 ? TRAINING_SHARE : training / (training + scoring);
    const share = this.#evaluated ? measured : 1;
    const state = this.state(name);
    if (state === 'scored') return 1;
    if (state !== 'trained') return share * Math.min(1, this.#step(name) / config.schedule.steps);
    const current = [...this.#current].find(({ run }) => run.name === name);
    return share + (1 - share) * (current?.scored ?? 0);
  }
}
