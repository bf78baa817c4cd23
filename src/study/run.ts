/** Runs a study: makes its data sets, then trains and scores its runs side by side. */
import { join } from 'node:path';
import { CHECKPOINTS } from '../checkpoint/resume.js';
import { removeCheckpoints } from '../checkpoint/retention.js';
import { OrchestratorError } from '../errors.js';
import { prepareData } from './data.js';
import { Processes, untilFree } from './execute.js';
import { expand, type StudyRun, type Variant } from './expand.js';
import { listed, type RunState, rewindToValidation, runState, StudyFolder } from './folder.js';
import { runJobs } from './schedule.js';
import { bestCheckpoint } from './score.js';
import type { LoadedStudy } from './spec.js';
import { type Current, type StudyProgress, Tally } from './tally.js';

interface StudyOptions {
  study: LoadedStudy;
  dir: string;
  /** The variants of the study, and those of them to run now. */
  variants: readonly Variant[];
  chosen: readonly Variant[];
  /** Workers of each run. */
  nodes: number;
  cores: number;
  /** Runs side by side; null = as many as there are cores for. */
  jobs: number | null;
  /** After so many seconds what runs is stopped in order; null = never. */
  budget: number | null;
  /** Whether runs that were trained with another configuration are moved aside and trained again. */
  rerun: boolean;
  /** The command that runs the study again, whatever its folder. */
  command: string;
}

/** Who hears of a study while it runs. */
interface StudyListener {
  /** Something has happened: a whole sentence or a line. */
  line(text: string): void;
  progress(state: StudyProgress): void;
}

export interface StudyOutcome {
  done: number;
  total: number;
  failed: string[];
  /** Why it ended before all runs were complete; null if nothing stopped it. */
  stopped: 'budget' | 'signal' | null;
  seconds: number;
}

const PROGRESS_MS = 1000;

export class Study {
  readonly #options: StudyOptions;
  readonly #listener: StudyListener;
  readonly #processes = new Processes();
  #stopped: StudyOutcome['stopped'] = null;

  constructor(options: StudyOptions, listener: StudyListener) {
    this.#options = options;
    this.#listener = listener;
  }

  /** Stops in order: no further run is started, and those in progress write a checkpoint. */
  stop(why: NonNullable<StudyOutcome['stopped']>): void {
    this.#stopped ??= why;
    this.#processes.stop();
  }

  get #isStopped(): boolean {
    return this.#stopped !== null;
  }

  async run(): Promise<StudyOutcome> {
    const { study, dir, variants, budget } = this.#options;
    const runs = expand(study, variants);
    const folder = await StudyFolder.open(dir);
    const timer = budget === null ? null : setTimeout(() => this.stop('budget'), budget * 1000);
    try {
      return await this.#runAll(folder, runs);
    } finally {
      if (timer !== null) clearTimeout(timer);
      this.#processes.close();
      folder.close();
    }
  }

  async #runAll(folder: StudyFolder, all: StudyRun[]): Promise<StudyOutcome> {
    const { study, chosen, command, nodes, cores, jobs } = this.#options;
    const { spec } = study;
    const names = new Set(chosen.map(({ name }) => name));
    const runs = all.filter(({ variant }) => names.has(variant));
    await this.#refuseChanged(folder, runs);
    for (const data of Object.keys(spec.data)) {
      if (this.#isStopped) break;
      await prepareData(spec, data, folder.path, (text) => this.#listener.line(text));
    }
    const { name, evaluation } = spec;
    await folder.writeStudy({ name, command, evaluation, runs: listed(all) });
    const states = new Map<string, RunState>();
    for (const run of listed(runs)) states.set(run.name, await runState(folder.path, run, evaluation));
    const tally = new Tally(folder, runs, states, evaluation !== null);
    const ticker = setInterval(() => this.#listener.progress(tally.progress()), PROGRESS_MS);
    try {
      const work = tally.open.map((run) => ({
        run: (threads: number) => this.#runOne(folder, tally, run, threads),
      }));
      // A GPU computes one run at a time.
      const most = runs.some(({ config }) => config.device === 'cuda') ? 1 : jobs;
      await runJobs(work, { cores, least: Math.min(nodes, cores), most }, () => this.#isStopped);
    } finally {
      clearInterval(ticker);
    }
    const { done, failed, seconds } = tally;
    return { done, total: runs.length, failed, stopped: this.#stopped, seconds };
  }

  /** Completes a run; its failure is told, and ends nothing else. */
  async #runOne(folder: StudyFolder, tally: Tally, run: StudyRun, threads: number): Promise<void> {
    const current = tally.begin(run);
    try {
      await this.#complete(folder, tally, current, threads);
    } catch (error) {
      if (!(error instanceof OrchestratorError)) throw error;
      const { message, hint } = error;
      tally.failed.push(run.name);
      this.#listener.line(`failed: ${message}${hint === null ? '' : `\n  ${hint}`}`);
      const { part, since } = current;
      const seconds = (performance.now() - since) / 1000;
      folder.note({ event: 'failed', run: run.name, part, seconds, threads, error: message });
    } finally {
      tally.end(current);
    }
  }

  /** Trains a run unless it is trained, and then scores it. */
  async #complete(folder: StudyFolder, tally: Tally, current: Current, threads: number): Promise<void> {
    const { nodes, study } = this.#options;
    const { name } = current.run;
    const runDir = folder.runDir(name);
    await untilFree(runDir, () => this.#isStopped);
    if (this.#isStopped) return;
    let trainedIn: number | null = null;
    if (tally.state(name) !== 'trained') {
      await folder.writeConfig(current.run);
      const { validation, schedule } = current.run.config;
      await rewindToValidation(runDir, { every: validation.every, steps: schedule.steps });
      const perWorker = Math.max(1, Math.floor(threads / nodes));
      const flags = ['--run-dir', runDir, '--nodes', String(nodes), '--set', `threads=${perWorker}`];
      const seconds = await this.#command(folder, current, threads, [
        'launch',
        folder.configFile(name),
        ...flags,
      ]);
      if (seconds === null) return;
      if (tally.state(name) === 'new') trainedIn = seconds;
      tally.trained(name);
    }
    if (study.spec.evaluation === null) return;
    current.part = 'scoring';
    const command = ['study', 'score', folder.path, name, '--threads', String(threads)];
    const seconds = await this.#command(folder, current, threads, command);
    if (seconds === null) return;
    tally.scored(name, trainedIn, seconds);
    const { step } = await bestCheckpoint(runDir);
    await removeCheckpoints(join(runDir, CHECKPOINTS), (other) => other !== step);
  }

  /** Runs a part of a run, and returns the seconds that it took; null if it was stopped. */
  async #command(
    folder: StudyFolder,
    current: Current,
    threads: number,
    command: readonly string[],
  ): Promise<number | null> {
    const { part } = current;
    const { name: run } = current.run;
    current.since = performance.now();
    const ended = await this.#processes.run(run, command, folder.logFile(run), (share) => {
      current.scored = share;
    });
    const seconds = (performance.now() - current.since) / 1000;
    const done = part === 'training' ? 'trained' : 'scored';
    folder.note({ event: ended ? done : 'stopped', run, part, seconds, threads });
    return ended ? seconds : null;
  }

  /** Refuses runs that were trained with another configuration, or moves them aside. */
  async #refuseChanged(folder: StudyFolder, runs: readonly StudyRun[]): Promise<void> {
    const changed = runs.flatMap((run) => {
      const change = folder.changeOf(run);
      return change === null ? [] : [{ name: run.name, change }];
    });
    if (changed.length === 0) return;
    if (this.#options.rerun) {
      for (const { name, change } of changed) {
        // What a killed study had started may be writing there.
        await untilFree(folder.runDir(name), () => this.#isStopped);
        if (this.#isStopped) return;
        this.#listener.line(
          `${name}: ${change}; it is run again, and the former is ${folder.setAside(name)}`,
        );
      }
      return;
    }
    const lines = changed.map(({ name, change }) => `  ${name}: ${change}`);
    throw new OrchestratorError(
      'ERR_STUDY',
      `${changed.length === 1 ? 'A run was' : `${changed.length} runs were`} trained with another configuration:\n${lines.join('\n')}`,
      '--rerun-changed moves them aside and trains them again; --dir begins another study',
    );
  }
}
