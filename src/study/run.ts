/** Runs a study: makes its data sets, then trains and scores its runs side by side. */
import { join } from 'node:path';
import { CHECKPOINTS } from '../checkpoint/resume.js';
import { keepOnly } from '../checkpoint/retention.js';
import { lastStep } from '../coordinator/progress.js';
import { OrchestratorError } from '../errors.js';
import { prepareData } from './data.js';
import { Processes, untilFree } from './execute.js';
import { expand, type StudyRun, type Variant } from './expand.js';
import { listed, type RunState, StudyFolder } from './folder.js';
import { remainingSeconds, runJobs } from './schedule.js';
import { bestCheckpoint } from './score.js';
import type { LoadedStudy } from './spec.js';

export interface StudyOptions {
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
  /** The command that runs the study again. */
  command: string;
}

/** What `runStudy` tells while it works. */
export interface StudyListener {
  /** Something has happened: a whole sentence or a line. */
  line(text: string): void;
  progress(state: StudyProgress): void;
}

export interface StudyProgress {
  /** Runs that are complete, and all of them. */
  done: number;
  total: number;
  /** "photos.rf.seed-0 (step 400/900)" */
  running: string[];
  seconds: number;
  remaining: number | null;
}

export interface StudyOutcome {
  done: number;
  total: number;
  failed: string[];
  /** Why it ended before all runs were complete; null if nothing stopped it. */
  stopped: 'budget' | 'signal' | null;
  seconds: number;
}

/** Share of a run's time that its training takes, before any run of the study has been measured. */
const TRAINING_SHARE = 0.7;
const PROGRESS_MS = 1000;

/** A run in progress. */
interface Current {
  run: StudyRun;
  part: 'training' | 'scoring';
  /** How much of the scoring is done, from 0 to 1. */
  scored: number;
}

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
    const started = performance.now();
    const seconds = () => (performance.now() - started) / 1000;
    const names = new Set(chosen.map(({ name }) => name));
    const runs = all.filter(({ variant }) => names.has(variant));
    this.#refuseChanged(folder, runs);
    for (const data of Object.keys(spec.data)) {
      await prepareData(spec, data, folder.path, (text) => this.#listener.line(text));
    }
    await folder.writeStudy({ name: spec.name, command, evaluation: spec.evaluation, runs: listed(all) });
    const states = new Map<string, RunState>();
    const list = listed(runs);
    for (const run of list) states.set(run.name, await folder.stateOf(run, spec.evaluation));
    const open = runs.filter(({ name }) => states.get(name) !== 'scored');
    const failed: string[] = [];
    const current = new Set<Current>();
    const share = trainingShare();
    const extent = (run: StudyRun) => {
      const scored = [...current].find((one) => one.run === run)?.scored ?? 0;
      return this.#extent(folder, run, states.get(run.name)!, share.value(), scored);
    };
    const total = () => runs.reduce((sum, run) => sum + extent(run), 0);
    const before = total();
    const tell = () => {
      const done = runs.filter(({ name }) => states.get(name) === 'scored').length;
      this.#listener.progress({
        ...{ done, total: runs.length, seconds: seconds() },
        running: [...current].map((one) => this.#describe(folder, one)),
        remaining: remainingSeconds(seconds(), before, total(), runs.length - failed.length),
      });
    };
    const ticker = setInterval(tell, PROGRESS_MS);
    try {
      const work = open.map((run) => ({
        run: async (threads: number) => {
          const one: Current = { run, part: 'training', scored: 0 };
          current.add(one);
          try {
            await this.#complete(folder, one, threads, states, share);
          } catch (error) {
            if (!(error instanceof OrchestratorError)) throw error;
            failed.push(run.name);
            this.#listener.line(`failed: ${error.message}${error.hint === null ? '' : `\n  ${error.hint}`}`);
            const { part } = one;
            folder.note({ event: 'failed', run: run.name, part, seconds: 0, threads, error: error.message });
          } finally {
            current.delete(one);
          }
        },
      }));
      // A GPU computes one run at a time.
      const most = runs.some(({ config }) => config.device === 'cuda') ? 1 : jobs;
      await runJobs(work, { cores, least: Math.min(nodes, cores), most }, () => this.#stopped !== null);
    } finally {
      clearInterval(ticker);
    }
    const done = runs.filter(({ name }) => states.get(name) === 'scored').length;
    return { done, total: runs.length, failed, stopped: this.#stopped, seconds: seconds() };
  }

  /** Trains a run unless it is trained, and then scores it. */
  async #complete(
    folder: StudyFolder,
    current: Current,
    threads: number,
    states: Map<string, RunState>,
    share: ReturnType<typeof trainingShare>,
  ): Promise<void> {
    const { nodes, study } = this.#options;
    const { run } = current;
    const { name } = run;
    await untilFree(folder.runDir(name));
    let trainedIn: number | null = null;
    if (states.get(name) !== 'trained') {
      const fresh = states.get(name) === 'new';
      await folder.writeConfig(run);
      const perWorker = Math.max(1, Math.floor(threads / nodes));
      const flags = ['--run-dir', folder.runDir(name), '--nodes', String(nodes)];
      const command = ['launch', folder.configFile(name), ...flags, '--set', `threads=${perWorker}`];
      const started = performance.now();
      const ended = await this.#processes.run(name, command, folder.logFile(name));
      const seconds = (performance.now() - started) / 1000;
      folder.note({ event: ended ? 'trained' : 'stopped', run: name, part: 'training', seconds, threads });
      if (!ended) return;
      if (fresh) trainedIn = seconds;
      states.set(name, study.spec.evaluation === null ? 'scored' : 'trained');
    }
    if (study.spec.evaluation === null || this.#stopped !== null) return;
    current.part = 'scoring';
    const command = ['study', 'score', folder.path, name, '--threads', String(threads)];
    const started = performance.now();
    const ended = await this.#processes.run(name, command, folder.logFile(name), (done) => {
      current.scored = done;
    });
    const seconds = (performance.now() - started) / 1000;
    folder.note({ event: ended ? 'scored' : 'stopped', run: name, part: 'scoring', seconds, threads });
    if (!ended) return;
    states.set(name, 'scored');
    const { step } = await bestCheckpoint(folder.runDir(name));
    await keepOnly(join(folder.runDir(name), CHECKPOINTS), step);
    if (trainedIn !== null) share.add(trainedIn, seconds);
  }

  /** How much of a run is done, from 0 to 1. */
  #extent(
    folder: StudyFolder,
    { name, config }: StudyRun,
    state: RunState,
    trainingPart: number,
    scored: number,
  ): number {
    if (state === 'scored') return 1;
    const part = this.#options.study.spec.evaluation === null ? 1 : trainingPart;
    if (state === 'trained') return part + (1 - part) * scored;
    const step = lastStep(join(folder.runDir(name), 'ledger.jsonl'));
    return part * Math.min(1, step / config.schedule.steps);
  }

  #describe(folder: StudyFolder, { run, part, scored }: Current): string {
    if (part === 'scoring') return `${run.name} (scoring, ${(100 * scored).toFixed(0)} %)`;
    const step = lastStep(join(folder.runDir(run.name), 'ledger.jsonl'));
    return `${run.name} (step ${step}/${run.config.schedule.steps})`;
  }

  /** Refuses runs that were trained with another configuration, or moves them aside. */
  #refuseChanged(folder: StudyFolder, runs: readonly StudyRun[]): void {
    const changed = runs.flatMap((run) => {
      const change = folder.changeOf(run);
      return change === null ? [] : [{ name: run.name, change }];
    });
    if (changed.length === 0) return;
    if (this.#options.rerun) {
      for (const { name, change } of changed) {
        this.#listener.line(`${name}: ${change}; it runs anew, and the former is ${folder.setAside(name)}`);
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

/** Which share of a run's time is training, from the runs that were measured. */
function trainingShare() {
  let [training, scoring] = [0, 0];
  return {
    add(trained: number, scored: number) {
      training += trained;
      scoring += scored;
    },
    value: () => (training === 0 ? TRAINING_SHARE : training / (training + scoring)),
  };
}
