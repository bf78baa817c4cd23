/**
 * The time that remains of a run. Steps, those in which attention is sampled, validations and checkpoints are each
 * measured apart, and the configuration says how many of each are to come.
 */
import { mean, medianHigh } from '../averages.js';
import { duration, timeSpan } from '../text/quantities.js';
import { pushBounded, StepTimes } from './step-times.js';

/** Steps whose forward passes, and checkpoints whose cost, are looked at. */
const WINDOW = 50;
/** Validations whose mean is the time of one. */
const VALIDATIONS = 10;
/**
 * Steps at the start of a process that are not timed: memory is touched and code compiled for the first time.
 */
const WARM_UP = 2;
/** Fewer sampled steps than this may all have been disturbed; they then count as so many others at most. */
const FEW = { steps: 5, most: 2 };
/** The forecast needs timed steps of this many seconds or this share of all steps, and at least this many. */
const FORECAST = { seconds: 3, share: 0.05, steps: 3 };
/** The share of a step that is its forward passes, where it is not measured: the rest is backward, exchange, update. */
const FORWARD_SHARE = 0.28;
/**
 * A forward pass of a validation takes this share of one of a step, because nothing is kept for a backward pass: 0.85 in
 * the median of 27 validations of configs/shapes-cpu.yaml (2026-11-27, two cores of an AMD EPYC with AVX-512 BF16).
 */
const VALIDATION_SHARE = 0.85;
/**
 * Before the first checkpoint: bytes per second that are hashed, written and read again, and the share of that time
 * by which the steps beside it are longer. The share is 0 with an idle processor, and up to 1 without.
 */
const CHECKPOINT_BYTES_PER_SECOND = 250e6;
const CHECKPOINT_SHARE = 1 / 2;
/** What was not measured yet may take this share more or less than it is estimated to. */
const ESTIMATE_ERROR = 1 / 2;
/** Where that may make the remaining time wrong by more than this share, it is a rough one. */
const ROUGH = 0.1;
/**
 * It is rough, too, where the newest blocks of steps differ by more than this share, from each other or from the mean
 * of a step, or are too few. Chosen by the recorded runs (test/fixtures/paces), also with any one of them left out.
 */
const STEADY = 0.25;

export interface PaceOptions {
  /** The first step of this process; larger than 1 in a resumed run. */
  firstStep: number;
  steps: number;
  /** Steps between two in which attention is sampled; 0 = never. */
  attentionEvery: number;
  /** Steps between two validations; 0 = never. The last step is always followed by one. */
  validateEvery: number;
  /** Forward passes of a validation over those of a step; the first validation replaces the estimate. */
  validationPasses: number;
  /** Steps between two checkpoints; 0 = only after the last step. */
  checkpointEvery: number;
  checkpointBytes: number;
}

interface Remaining {
  seconds: number;
  /** It is more often wrong than others: too little was measured, or the newest steps are not of one pace. */
  isRough: boolean;
}

export class Pace {
  readonly #options: PaceOptions;
  /** Number of timed steps, and their seconds. */
  #timed = 0;
  #seconds = 0;
  /** Steps during which no checkpoint was written, without and with sampled attention. */
  readonly #plain = new StepTimes();
  readonly #sampled = new StepTimes();
  /** The steps during which the checkpoint that is being written was; null: none is. */
  #writing: { step: number; seconds: number }[] | null = null;
  /** For each of the last checkpoints, how much longer than others the steps were during which it was written. */
  readonly #extras: number[] = [];
  /** Seconds that the last checkpoint took to write; null: none was written. */
  #write: number | null = null;
  /** The shares of the last steps that were their forward passes. */
  readonly #forward: number[] = [];
  /** Seconds of the last validations. */
  readonly #validations: number[] = [];
  #reported = false;

  constructor(options: PaceOptions) {
    this.#options = options;
  }

  /**
   * @param seconds Time from the previous commit to this one, without a validation in between.
   * @param forward The share of it that forward passes took; null: not measured.
   */
  add(step: number, seconds: number, forward: number | null = null): void {
    const { firstStep, steps, checkpointEvery } = this.#options;
    if (step >= firstStep + WARM_UP) {
      this.#timed++;
      this.#seconds += seconds;
      if (forward !== null) pushBounded(this.#forward, forward, WINDOW);
      if (this.#writing === null) this.#timesOf(step).add(seconds);
      else this.#writing.push({ step, seconds });
    }
    if (checkpointEvery > 0 && step % checkpointEvery === 0 && step < steps) this.#writing ??= [];
  }

  #timesOf(step: number): StepTimes {
    const { attentionEvery } = this.#options;
    return attentionEvery > 0 && step % attentionEvery === 0 ? this.#sampled : this.#plain;
  }

  /** @param seconds Time of a whole validation. */
  validated(seconds: number): void {
    pushBounded(this.#validations, seconds, VALIDATIONS);
  }

  /** A checkpoint was written, or given up. @param seconds Time that it took; null: it was given up. */
  saved(seconds: number | null): void {
    const during = this.#writing ?? [];
    this.#writing = null;
    if (seconds !== null) this.#write = seconds;
    if (during.length === 0) return;
    if (this.#plain.count + this.#sampled.count === 0) {
      // Checkpoints follow each other so closely that every step has its part of one.
      for (const each of during) this.#timesOf(each.step).add(each.seconds);
      this.#extras.push(0);
      return;
    }
    pushBounded(this.#extras, this.#longer(during), WINDOW);
  }

  /** How much longer than usual some steps were together. */
  #longer(steps: readonly { step: number; seconds: number }[]): number {
    return steps.reduce((sum, { step, seconds }) => sum + seconds - this.#usual(this.#timesOf(step)), 0);
  }

  /** What a checkpoint costs beside the steps; of the one that is being written, as far as it is known. */
  get #checkpointExtra(): number {
    if (this.#extras.length > 0) return Math.max(0, mean(this.#extras));
    const writing = this.#writing ?? [];
    const now = this.#plain.count + this.#sampled.count === 0 ? 0 : this.#longer(writing);
    return Math.max(now, CHECKPOINT_SHARE * this.#estimatedWrite);
  }

  get #estimatedWrite(): number {
    return this.#options.checkpointBytes / CHECKPOINT_BYTES_PER_SECOND;
  }

  /** Seconds of a usual step of a kind; of one that was not seen, those of the other; 0 before any. */
  #usual(kind: StepTimes): number {
    const plain = this.#plain.pace?.mean;
    const sampled = this.#sampled.pace?.mean;
    if (kind === this.#plain || sampled === undefined) return plain ?? sampled ?? this.#writingMean;
    const most = plain === undefined || this.#sampled.count >= FEW.steps ? sampled : FEW.most * plain;
    return Math.min(sampled, most);
  }

  /** The mean time of the steps during which the current checkpoint is written; 0 if there was none. */
  get #writingMean(): number {
    const steps = this.#writing ?? [];
    return steps.length === 0 ? 0 : mean(steps.map(({ seconds }) => seconds));
  }

  /** Time from the commit of `step` to the end of the run; null before any step was timed. */
  remaining(step: number): Remaining | null {
    return this.#timed === 0 ? null : this.#total(step);
  }

  /** A sentence that says how long the run takes: once, when enough steps have been timed; otherwise null. */
  forecast(): string | null {
    const { firstStep, steps } = this.#options;
    const count = steps - firstStep + 1;
    const enough = this.#seconds >= FORECAST.seconds || this.#timed >= FORECAST.share * count;
    if (this.#reported || this.#timed < FORECAST.steps || !enough) return null;
    this.#reported = true;
    const before = firstStep - 1;
    const validations = this.#validationsAfter(before);
    const parts = [
      `${count} steps of ${duration(this.#stepsAfter(before) / count)}`,
      ...(validations === 0 ? [] : [validations === 1 ? '1 validation' : `${validations} validations`]),
    ];
    const what = firstStep === 1 ? 'Training' : 'The rest of the training';
    return `${what} will take about ${timeSpan(this.#total(before).seconds)}: ${parts.join(' and ')}`;
  }

  /** From the commit of step `after` to the end of the run. */
  #total(after: number): Remaining {
    const { steps, validationPasses, checkpointEvery } = this.#options;
    const forward = this.#forward.length > 0 ? medianHigh(this.#forward) : FORWARD_SHARE;
    const isValidated = this.#validations.length > 0;
    const validation = isValidated
      ? mean(this.#validations)
      : this.#usual(this.#plain) * validationPasses * forward * VALIDATION_SHARE;
    const validations = validation * this.#validationsAfter(after);
    // The last checkpoint is waited for; those before are written beside the steps.
    const beside = checkpointEvery === 0 ? 0 : between(after, steps - 1, checkpointEvery);
    const checkpoints = this.#checkpointExtra * beside;
    const write = this.#write ?? this.#estimatedWrite;
    const ofSteps = this.#stepsAfter(after);
    const seconds = ofSteps + validations + checkpoints + write;
    const estimated =
      (isValidated ? 0 : validations) +
      (this.#extras.length > 0 ? 0 : checkpoints) +
      (this.#write === null ? write : 0);
    return { seconds, isRough: !this.#isSteady || ESTIMATE_ERROR * estimated > ROUGH * seconds };
  }

  /** Whether the newest steps are of one pace, that of the mean, of the kind that has the most. */
  get #isSteady(): boolean {
    const { pace } = this.#plain.count >= this.#sampled.count ? this.#plain : this.#sampled;
    return pace !== null && Math.max(pace.range, Math.abs(pace.change)) <= STEADY;
  }

  /** Seconds of the steps after one, without what comes between them. */
  #stepsAfter(after: number): number {
    const { steps, attentionEvery } = this.#options;
    const sampled = attentionEvery === 0 ? 0 : between(after, steps, attentionEvery);
    return sampled * this.#usual(this.#sampled) + (steps - after - sampled) * this.#usual(this.#plain);
  }

  /** Number of validations from the commit of step `from` on. */
  #validationsAfter(from: number): number {
    const { firstStep, steps, validateEvery } = this.#options;
    if (validateEvery === 0) return 0;
    const regular = between(Math.max(from, firstStep) - 1, steps, validateEvery);
    return regular + (steps % validateEvery === 0 ? 0 : 1);
  }
}

/** Multiples of `every` in (after, last]. */
function between(after: number, last: number, every: number): number {
  return Math.max(0, Math.floor(last / every) - Math.floor(after / every));
}
