/** The pace of steps of one kind, from the durations of those that were made. */

/** The pace is the mean of so many steps, and of up to HISTORY where the earlier ones had the same. */
const WINDOW = 50;
const HISTORY = 400;
/** Means that differ by less than this share are of the same pace. */
const SAME = 0.3;
/**
 * A step counts as so many medians at most: one that stood still, as in a suspension or while another program
 * took the machine, would otherwise be part of the forecast of all later ones. Before WINDOW steps are known, one
 * counts less: what disturbs the beginning, such as code that is compiled and memory that is touched for the first
 * time, makes single steps slower and none faster.
 */
const MOST_MEDIANS = { atFirst: 1.25, later: 4 };
/** Steps whose means are compared, and how many such blocks, the newest. */
const BLOCK = 5;
const BLOCKS = 4;

export interface StepPace {
  /** Seconds of a step. */
  mean: number;
  /**
   * Range of the means of the newest blocks of steps, as a share of their mean: the largest less the smallest. Infinite
   * where there are fewer than two blocks.
   */
  range: number;
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
  const { atFirst, later } = MOST_MEDIANS;
  const used = seconds.length < WINDOW ? limited(seconds, atFirst) : lastOfOnePace(limited(seconds, later));
  return { mean: mean(used), range: rangeOf(blocksOf(limited(seconds.slice(-BLOCKS * BLOCK), atFirst))) };
}

/** The same, but none longer than so many medians. */
function limited(seconds: readonly number[], medians: number): number[] {
  const most = median(seconds) * medians;
  return seconds.map((value) => Math.min(value, most));
}

function lastOfOnePace(seconds: readonly number[]): readonly number[] {
  let window = WINDOW;
  for (; window < seconds.length; window *= 2) {
    const earlier = mean(seconds.slice(-2 * window, -window));
    if (Math.abs(mean(seconds.slice(-window)) / earlier - 1) > SAME) break;
  }
  return seconds.slice(-window);
}

/** The means of blocks of steps, the last one first; the first steps may be in none. */
function blocksOf(seconds: readonly number[]): number[] {
  const end = (i: number) => seconds.length - i * BLOCK;
  const count = Math.floor(seconds.length / BLOCK);
  return Array.from({ length: count }, (_, i) => mean(seconds.slice(end(i + 1), end(i))));
}

function rangeOf(means: readonly number[]): number {
  if (means.length < 2) return Number.POSITIVE_INFINITY;
  return (Math.max(...means) - Math.min(...means)) / mean(means);
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
