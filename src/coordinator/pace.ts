/** The pace of a run, and the time that remains: steps, validations and checkpoints, each measured apart. */
import { duration, timeSpan } from '../text/quantities.js';

/** The pace is the mean of so many steps, and of up to HISTORY where the earlier ones had the same. */
const WINDOW = 50;
const HISTORY = 400;
/** Means that differ by less than this share are of the same pace. */
const SAME = 0.3;
/**
 * A step counts as so many medians at most: one that stood still, as in a suspension or while another program
 * took the machine, would otherwise be part of the forecast of all later ones. Before WINDOW steps are known,
 * one counts less: what disturbs the beginning, such as code that is compiled and processes that start, makes
 * single steps slower and none faster.
 */
const MOST_MEDIANS = 4;
const MOST_MEDIANS_AT_FIRST = 1.25;
/** Validations whose mean is the time of one. */
const VALIDATIONS = 10;
/**
 * Steps at the start of a process that are not timed: memory is touched and code compiled for the first time.
 */
const WARM_UP = 2;
/** The forecast needs timed steps of this many seconds or this share of all steps, and at least this many. */
const FORECAST = { seconds: 3, share: 0.05, steps: 3 };
/** The share of a step that is its forward passes, where it is not measured. */
const FORWARD_SHARE = 1 / 3;
/** Bytes per second that a disk takes, before the first checkpoint has shown it. */
const DISK_BYTES_PER_SECOND = 500e6;

export interface PaceOptions {
  /** The first step of this process; larger than 1 in a resumed run. */
  firstStep: number;
  steps: number;
  /** Steps between two validations; 0 = never. The last step is always followed by one. */
  validateEvery: number;
  /** Forward passes of a validation over those of a step; the first validation replaces the estimate. */
  validationPasses: number;
  /** Steps between two checkpoints; 0 = only after the last step. */
  checkpointEvery: number;
  checkpointBytes: number;
}

export class Pace {
  readonly #options: PaceOptions;
  /** Number of timed steps, and their seconds. */
  #timed = 0;
  #seconds = 0;
  /** Seconds of the last steps during which no checkpoint was written. */
  readonly #steps: number[] = [];
  /** Seconds of the steps during which the checkpoint that is being written was; null: none is. */
  #writing: number[] | null = null;
  /** For each of the last checkpoints, how much longer than others the steps were during which it was written. */
  readonly #extras: number[] = [];
  /** Seconds that the last checkpoint took to write. */
  #write: number;
  /** The shares of the last steps that were their forward passes. */
  readonly #forward: number[] = [];
  /** Seconds of the last validations. */
  readonly #validationSeconds: number[] = [];
  #reported = false;

  constructor(options: PaceOptions) {
    this.#options = options;
    this.#write = options.checkpointBytes / DISK_BYTES_PER_SECOND;
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
      pushBounded(this.#writing ?? this.#steps, seconds, HISTORY);
    }
    if (checkpointEvery > 0 && step % checkpointEvery === 0 && step < steps) this.#writing ??= [];
  }

  /** @param seconds Time of a whole validation. */
  validated(seconds: number): void {
    pushBounded(this.#validationSeconds, seconds, VALIDATIONS);
  }

  /** A checkpoint was written, or given up. @param seconds Time that it took; null: it was given up. */
  saved(seconds: number | null): void {
    const during = this.#writing ?? [];
    this.#writing = null;
    if (seconds !== null) this.#write = seconds;
    const usual = this.#step;
    if (usual === null) return;
    if (this.#steps.length === 0) {
      // Checkpoints follow each other so closely that every step has its part of one.
      this.#steps.push(...during);
      return;
    }
    pushBounded(this.#extras, sum(during) - during.length * usual, WINDOW);
  }

  /** What a checkpoint costs beside the steps; of the one that is being written, as far as it is known. */
  get #checkpointExtra(): number {
    const usual = this.#step ?? 0;
    const now = this.#writing === null ? 0 : sum(this.#writing) - this.#writing.length * usual;
    return Math.max(0, this.#extras.length === 0 ? now : mean(this.#extras));
  }

  /** Seconds of a usual step; null before one was timed. */
  get #step(): number | null {
    const steps = this.#steps.length > 0 ? this.#steps : (this.#writing ?? []);
    return steps.length === 0 ? null : paceOf(steps);
  }

  /** Seconds from the commit of `step` to the end of the run; null before any step was timed. */
  remaining(step: number): number | null {
    const seconds = this.#step;
    return seconds === null ? null : this.#total(seconds, step);
  }

  /** A sentence that says how long the run takes: once, when enough steps have been timed; otherwise null. */
  forecast(): string | null {
    const { firstStep, steps } = this.#options;
    const count = steps - firstStep + 1;
    const enough = this.#seconds >= FORECAST.seconds || this.#timed >= FORECAST.share * count;
    if (this.#reported || this.#timed < FORECAST.steps || !enough) return null;
    this.#reported = true;
    const step = this.#step!;
    const validations = this.#validations(firstStep);
    const parts = [
      `${count} steps of ${duration(step)}`,
      ...(validations === 0 ? [] : [validations === 1 ? '1 validation' : `${validations} validations`]),
    ];
    const what = firstStep === 1 ? 'Training' : 'The rest of the training';
    return `${what} will take about ${timeSpan(this.#total(step, firstStep - 1))}: ${parts.join(' and ')}`;
  }

  /** Seconds from the commit of step `after` to the end of the run. */
  #total(step: number, after: number): number {
    const { steps, validationPasses, checkpointEvery } = this.#options;
    const measured = this.#validationSeconds;
    const forward = this.#forward.length > 0 ? mean(this.#forward) : FORWARD_SHARE;
    const validation = measured.length > 0 ? mean(measured) : step * validationPasses * forward;
    // The last checkpoint is waited for; those before are written beside the steps.
    const checkpoints = checkpointEvery === 0 ? 0 : between(after, steps - 1, checkpointEvery);
    return (
      step * (steps - after) +
      validation * this.#validations(after) +
      this.#checkpointExtra * checkpoints +
      this.#write
    );
  }

  /** Number of validations from the commit of step `from` on. */
  #validations(from: number): number {
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

/** Seconds of a step, from those of the last ones. */
function paceOf(seconds: readonly number[]): number {
  const median = seconds.toSorted((a, b) => a - b)[Math.floor(seconds.length / 2)]!;
  const most = median * (seconds.length < WINDOW ? MOST_MEDIANS_AT_FIRST : MOST_MEDIANS);
  const limited = seconds.map((value) => Math.min(value, most));
  let window = WINDOW;
  for (; window < limited.length; window *= 2) {
    const earlier = mean(limited.slice(-2 * window, -window));
    if (Math.abs(mean(limited.slice(-window)) / earlier - 1) > SAME) break;
  }
  return mean(limited.slice(-window));
}

function pushBounded(values: number[], value: number, most: number): void {
  values.push(value);
  if (values.length > most) values.shift();
}

function mean(values: readonly number[]): number {
  return sum(values) / values.length;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
