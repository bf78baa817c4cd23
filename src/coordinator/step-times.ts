/** The pace of steps of one kind, from the durations of those that were made. */

/** The pace is the mean of so many steps, and of up to HISTORY where the earlier ones had the same. */
const WINDOW = 50;
const HISTORY = 400;
/** Means that differ by less than this share are of the same pace. */
const SAME = 0.3;
/**
 * A step counts as so many medians at most: one that stood still, as in a suspension or while another program
 * took the machine, would otherwise be part of the forecast of all later ones.
 */
const MOST_MEDIANS = 4;
/**
 * Before WINDOW steps are known the pace is that of this share of them, the newest, and of at least so many; each
 * counts as so many medians at most. What disturbs the beginning, such as code that is compiled and memory that is
 * touched for the first time, makes steps slower and none faster.
 */
const AT_FIRST = { share: 0.6, least: 6, mostMedians: 1.25 };
/**
 * Steps are no independent samples where the machine is faster at times, and slower at others. So the pace is taken to
 * be as uncertain as means of parts of the steps show: by this share of their standard deviation.
 */
const PARTS = { most: 8, leastSteps: 5, share: 0.7 };

export interface StepPace {
  /** Seconds of a step. */
  mean: number;
  /** Standard error of the mean of later steps, in seconds; as large as the mean where there is one step. */
  error: number;
}

export class StepTimes {
  readonly #seconds: number[] = [];
  /** Null: not computed since the last step. */
  #pace: StepPace | null = null;

  add(...seconds: readonly number[]): void {
    for (const each of seconds) pushBounded(this.#seconds, each, HISTORY);
    this.#pace = null;
  }

  get count(): number {
    return this.#seconds.length;
  }

  /** Null: there was no step. */
  get pace(): StepPace | null {
    if (this.#seconds.length > 0) this.#pace ??= paceOf(this.#seconds);
    return this.#pace;
  }
}

function paceOf(seconds: readonly number[]): StepPace {
  const used = seconds.length < WINDOW ? newest(seconds) : lastOfOnePace(seconds);
  const average = mean(used);
  if (used.length === 1) return { mean: average, error: average };
  const independent = deviation(used) / Math.sqrt(used.length);
  return { mean: average, error: Math.max(independent, PARTS.share * deviation(partsOf(used))) };
}

function newest(seconds: readonly number[]): number[] {
  const { share, least, mostMedians } = AT_FIRST;
  return limited(seconds.slice(-Math.max(least, Math.ceil(seconds.length * share))), mostMedians);
}

function lastOfOnePace(seconds: readonly number[]): number[] {
  const all = limited(seconds, MOST_MEDIANS);
  let window = WINDOW;
  for (; window < all.length; window *= 2) {
    const earlier = mean(all.slice(-2 * window, -window));
    if (Math.abs(mean(all.slice(-window)) / earlier - 1) > SAME) break;
  }
  return all.slice(-window);
}

/** The same, but none longer than so many medians. */
function limited(seconds: readonly number[], medians: number): number[] {
  const most = median(seconds) * medians;
  return seconds.map((value) => Math.min(value, most));
}

/** The means of equal parts of the steps, the newest ones first; none of too few steps. */
function partsOf(seconds: readonly number[]): number[] {
  const count = Math.min(PARTS.most, Math.floor(seconds.length / PARTS.leastSteps));
  const size = Math.floor(seconds.length / count);
  const end = (i: number) => seconds.length - i * size;
  return Array.from({ length: count }, (_, i) => mean(seconds.slice(end(i + 1), end(i))));
}

/** The standard deviation of samples; 0 of fewer than two. */
function deviation(values: readonly number[]): number {
  if (values.length < 2) return 0;
  const average = mean(values);
  const squares = values.reduce((total, value) => total + (value - average) * (value - average), 0);
  return Math.sqrt(squares / (values.length - 1));
}

export function pushBounded(values: number[], value: number, most: number): void {
  values.push(value);
  if (values.length > most) values.shift();
}

export function mean(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0) / values.length;
}

/** The middle one of some values, the larger of two. */
export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
}
