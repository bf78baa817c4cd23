/**
 * What a run is doing, gathered from its records: the table, `orchestrator status` and the summary at the end
 * show the same numbers.
 */
import type {
  AttentionSummary,
  RunHeader,
  Sink,
  StartRecord,
  StepRecord,
  Straggler,
  ValidatedSlots,
  ValidationRecord,
} from './record.js';

/** Steps over which loss and speed are averaged. */
export const WINDOW = 50;

/** The phases in which steps are computed. */
const TRAINING: ReadonlySet<string> = new Set(['RUNNING', 'DRAINING']);

/** A validation's mean loss. */
export interface ValidationLoss {
  step: number;
  loss: number;
}

/** A worker, as far as the run knows it. */
export interface WorkerView {
  /** null: it has no place in the generation. */
  rank: number | null;
  id: string;
  host: string;
  pid: number | null;
  /**
   * missing: it has not joined yet, as where its host cannot be reached; lost: it may come again; ended: it is not started
   * again, or not for minutes; unknown: no coordinator says it.
   */
  state: 'training' | 'building' | 'standby' | 'leaving' | 'missing' | 'lost' | 'ended' | 'unknown';
  /** Name and number of its GPU; empty on the CPU. */
  device: string;
}

/** As `status --json` prints it; numbers that are not known yet are null. */
export interface RunView {
  name: string;
  run_dir: string;
  phase: string;
  /** Committed steps, including those before a resume. */
  step: number;
  steps: number;
  epoch: number | null;
  /**
   * Time of all steps and validations that the run has recorded, also of those before a resume, and of the one that is
   * in progress so far. Starting, forming generations and writing the last checkpoint are no part of it.
   */
  elapsed_seconds: number;
  remaining_seconds: number | null;
  /** Whether it may be wrong by more than a tenth; null where it is not known. */
  remaining_is_rough: boolean | null;
  loss: number | null;
  /** Means over the last 50 steps of this process, validations left out. */
  mean_loss: number | null;
  step_seconds: number | null;
  samples_per_second: number | null;
  flops_per_second: number | null;
  gradient_norm: number | null;
  /** The share of the last 50 steps whose gradient was clipped. */
  clipped_share: number | null;
  learning_rate: number | null;
  /** Largest attention logit of the last step that was sampled. */
  max_abs_logit: number | null;
  /** Seconds for which a validation has been running; null: none is. */
  validating_seconds: number | null;
  /** How far it is; null: not known yet, or none is. */
  validating_slots: ValidatedSlots | null;
  /** The losses of the EMA, or of the master weights if only those are validated. */
  validation: {
    weights: string;
    last: ValidationLoss | null;
    best: ValidationLoss | null;
    /** The duration of the last validation of this process. */
    seconds: number | null;
  } | null;
  /** With the free bytes that its disk had afterwards. */
  checkpoint: { step: number; path: string; age_seconds: number | null; free_bytes: number | null } | null;
  missed_checkpoints: number;
  restarts: number;
  workers: number;
  /** Each of them; of a run that has ended, none. */
  members: readonly WorkerView[];
  /** Workers that were slow in most of the last steps; of a run whose coordinator answers. */
  stragglers: readonly Straggler[];
  unix_seconds: number;
}

/** The loss by which validations are compared: that of the EMA, where it is validated. */
export function comparedLoss<T extends { weights: string }>(results: readonly T[]): T | undefined {
  return results.find(({ weights }) => weights === 'ema') ?? results[0];
}

/** The better of two validations, the earlier of equal ones. One that is not a number is no better than any. */
export function lower(before: ValidationLoss, after: ValidationLoss): ValidationLoss {
  return after.loss < before.loss || Number.isNaN(before.loss) ? after : before;
}

interface Mean {
  seconds: number;
  samples: number;
  flops: number;
  loss: number;
  /** 1: the gradient was clipped. */
  clipped: number;
}

/** @param now Milliseconds since 1970. */
export class RunProgress implements Sink {
  readonly header: RunHeader;
  /** The workers now. */
  listWorkers: () => readonly WorkerView[] = () => [];
  readonly #now: () => number;
  #phase = 'INIT';
  /** When the step or validation in progress began, if one is. */
  #since: number;
  /** Seconds of all steps and validations before it. */
  #seconds = 0;
  #step: StepRecord | null = null;
  #stepAt = 0;
  /** The last steps, the newest at the end. */
  readonly #window: Mean[] = [];
  readonly #totals = { steps: 0, samples: 0, seconds: 0 };
  #logit: number | null = null;
  #validating = false;
  #validatedSlots: ValidatedSlots | null = null;
  #validation: NonNullable<RunView['validation']> | null = null;
  #checkpoint: { step: number; path: string; at: number | null; free: number | null } | null = null;
  #missed = 0;
  #restarts = 0;

  constructor(header: RunHeader, now: () => number = Date.now) {
    this.header = header;
    this.#now = now;
    this.#since = now();
    const { checkpoint } = header;
    if (checkpoint !== null) this.#checkpoint = { ...checkpoint, at: null, free: null };
  }

  /** The sum over all steps of this process; of their seconds also over its validations. */
  get totals(): { steps: number; samples: number; seconds: number } {
    return this.#totals;
  }

  /** The last committed step, with the workers' parts. */
  get lastStep(): StepRecord | null {
    return this.#step;
  }

  start({ validations, recordedSeconds }: StartRecord): void {
    this.#seconds = recordedSeconds;
    this.#since = this.#now();
    const last = validations.at(-1);
    if (last === undefined) return;
    const best = validations.reduce(lower);
    this.#validation = { weights: this.header.validatedWeights ?? 'ema', last, best, seconds: null };
  }

  step(record: StepRecord): void {
    const { seconds, samples, flops, loss, attention, validating } = record;
    const clipped = record.gradientNorm > record.clipNorm ? 1 : 0;
    this.#step = record;
    this.#stepAt = this.#now();
    this.#window.push({ seconds, samples, flops, loss, clipped });
    this.#totals.steps++;
    this.#totals.samples += samples;
    this.#totals.seconds += seconds;
    // A screen may have missed some.
    this.#seconds = record.recordedSeconds;
    this.#since = this.#stepAt;
    if (this.#window.length > WINDOW) this.#window.shift();
    if (attention.length > 0) this.#logit = maxLogit(attention);
    this.#validating = validating;
    this.#validatedSlots = null;
  }

  validating(slots: ValidatedSlots): void {
    this.#validatedSlots = slots;
  }

  validation({ step, seconds, results }: ValidationRecord): void {
    this.#validating = false;
    this.#totals.seconds += seconds;
    this.#seconds += seconds;
    // The next step is computed after it, and recorded without its time.
    this.#goOnAfter(seconds);
    const compared = comparedLoss(results);
    if (compared === undefined) return;
    const last = { step, loss: compared.mean };
    const best = lower(this.#validation?.best ?? last, last);
    this.#validation = { weights: compared.weights, last, best, seconds };
  }

  checkpoint({ step, path, freeBytes }: { step: number; path: string; freeBytes?: number }): void {
    this.#checkpoint = { step, path, at: this.#now(), free: freeBytes ?? null };
  }

  missedCheckpoint(): void {
    this.#missed++;
  }

  count(what: string, by: number): void {
    if (what === 'restarts') this.#restarts += by;
  }

  suspended(seconds: number): void {
    this.#goOnAfter(seconds);
  }

  /** So many of the last seconds are none of what is in progress. */
  #goOnAfter(seconds: number): void {
    this.#since = Math.min(this.#now(), this.#since + 1000 * seconds);
  }

  phase(phase: string): void {
    // A step that a fault has ended is no part of the next.
    if (TRAINING.has(phase) && !TRAINING.has(this.#phase)) this.#since = this.#now();
    this.#phase = phase;
    if (phase !== 'RUNNING') this.#validating = false;
  }

  view(): RunView {
    const { header } = this;
    const record = this.#step;
    const now = this.#now();
    const sum = (name: keyof Mean) => this.#window.reduce((total, each) => total + each[name], 0);
    const seconds = sum('seconds');
    const average = (name: keyof Mean) => (record === null ? null : sum(name) / this.#window.length);
    const perSecond = (name: keyof Mean) => (record === null ? null : sum(name) / seconds);
    const sinceStep = (now - this.#stepAt) / 1000;
    const over = ['DONE', 'STOPPED', 'FAILED'].includes(this.#phase);
    const inProgress = TRAINING.has(this.#phase) || this.#validating ? (now - this.#since) / 1000 : 0;
    const eta = over ? null : (record?.eta ?? null);
    const checkpoint = this.#checkpoint;
    return {
      name: header.name,
      run_dir: header.runDir,
      phase: this.#phase,
      step: record?.step ?? header.resumedStep,
      steps: header.steps,
      epoch: record?.epoch ?? null,
      elapsed_seconds: this.#seconds + inProgress,
      remaining_seconds: eta === null ? null : Math.max(0, eta.seconds - sinceStep),
      remaining_is_rough: eta === null ? null : eta.isRough,
      loss: record?.loss ?? null,
      mean_loss: average('loss'),
      step_seconds: average('seconds'),
      samples_per_second: perSecond('samples'),
      flops_per_second: perSecond('flops'),
      gradient_norm: record?.gradientNorm ?? null,
      clipped_share: average('clipped'),
      learning_rate: record?.learningRate ?? null,
      max_abs_logit: this.#logit,
      validating_seconds: this.#validating ? sinceStep : null,
      validating_slots: this.#validating ? this.#validatedSlots : null,
      validation: this.#validation,
      checkpoint:
        checkpoint === null
          ? null
          : {
              step: checkpoint.step,
              path: checkpoint.path,
              age_seconds: checkpoint.at === null ? null : (now - checkpoint.at) / 1000,
              free_bytes: checkpoint.free,
            },
      missed_checkpoints: this.#missed,
      restarts: header.restarts + this.#restarts,
      workers: header.workers,
      members: over ? [] : this.listWorkers(),
      stragglers: record?.stragglers ?? [],
      unix_seconds: now / 1000,
    };
  }
}

export function maxLogit(attention: readonly Pick<AttentionSummary, 'maxAbsLogit'>[]): number {
  return Math.max(...attention.map(({ maxAbsLogit }) => maxAbsLogit));
}
