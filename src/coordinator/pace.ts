/** The pace of a run, and the time that remains. */
import { duration, timeSpan } from '../text/quantities.js';

/** Weight of the newest step in the moving average that estimates the remaining time. */
const NEWEST = 0.1;
/**
 * Steps at the start of a process that are not timed: memory is touched and code compiled for the first time.
 */
const WARM_UP = 2;
/** The forecast needs timed steps of this many seconds or this share of all steps, and at least this many. */
const FORECAST = { seconds: 3, share: 0.05, steps: 3 };

export interface PaceOptions {
  /** The first step of this process; larger than 1 in a resumed run. */
  firstStep: number;
  steps: number;
  /** Steps between two validations; 0 = never. The last step is always followed by one. */
  validateEvery: number;
  /** Estimated duration of a validation, in steps; the first validation replaces it by a measured one. */
  validationCost: number;
}

export class Pace {
  readonly #options: PaceOptions;
  /** Number of timed steps. */
  #timed = 0;
  #seconds = 0;
  /** Moving average of the seconds of a step; null before any was timed. */
  #recent: number | null = null;
  /** Seconds of the last validation; null before the first. */
  #validation: number | null = null;
  #reported = false;

  constructor(options: PaceOptions) {
    this.#options = options;
  }

  /** @param seconds Time from the previous commit to this one, without a validation in between. */
  add(step: number, seconds: number): void {
    if (step < this.#options.firstStep + WARM_UP) return;
    this.#timed++;
    this.#seconds += seconds;
    const before = this.#recent ?? seconds;
    this.#recent = before + Math.max(NEWEST, 1 / this.#timed) * (seconds - before);
  }

  /** @param seconds Time of a whole validation. */
  validated(seconds: number): void {
    this.#validation = seconds;
  }

  /** Seconds from the commit of `step` to the end of the run; null before any step was timed. */
  remaining(step: number): number | null {
    return this.#recent === null ? null : this.#total(this.#recent, step);
  }

  /** A sentence that says how long the run takes: once, when enough steps have been timed; otherwise null. */
  forecast(): string | null {
    const { firstStep, steps } = this.#options;
    const count = steps - firstStep + 1;
    const enough = this.#seconds >= FORECAST.seconds || this.#timed >= FORECAST.share * count;
    if (this.#reported || this.#timed < FORECAST.steps || !enough) return null;
    this.#reported = true;
    const step = this.#seconds / this.#timed;
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
    const { steps, validationCost } = this.#options;
    const validation = this.#validation ?? step * validationCost;
    return step * (steps - after) + validation * this.#validations(after);
  }

  /** Number of validations from the commit of step `from` on. */
  #validations(from: number): number {
    const { firstStep, steps, validateEvery } = this.#options;
    if (validateEvery === 0) return 0;
    const first = Math.max(from, firstStep);
    const regular = Math.floor(steps / validateEvery) - Math.floor((first - 1) / validateEvery);
    return regular + (steps % validateEvery === 0 ? 0 : 1);
  }
}
