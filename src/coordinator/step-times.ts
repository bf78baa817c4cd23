/** The pace of steps of one kind, from the durations of those that were made. */

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

export interface StepPace {
  /** Seconds of a step. */
  mean: number;
  /** Standard error of the mean, in seconds; as large as the mean where there is one step. */
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
  const median = seconds.toSorted((a, b) => a - b)[Math.floor(seconds.length / 2)]!;
  const most = median * (seconds.length < WINDOW ? MOST_MEDIANS_AT_FIRST : MOST_MEDIANS);
  const limited = seconds.map((value) => Math.min(value, most));
  let window = WINDOW;
  for (; window < limited.length; window *= 2) {
    const earlier = mean(limited.slice(-2 * window, -window));
    if (Math.abs(mean(limited.slice(-window)) / earlier - 1) > SAME) break;
  }
  const used = limited.slice(-window);
  const average = mean(used);
  if (used.length === 1) return { mean: average, error: average };
  const squares = used.reduce((total, value) => total + (value - average) * (value - average), 0);
  return { mean: average, error: Math.sqrt(squares / (used.length - 1) / used.length) };
}

export function pushBounded(values: number[], value: number, most: number): void {
  values.push(value);
  if (values.length > most) values.shift();
}

export function mean(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0) / values.length;
}
