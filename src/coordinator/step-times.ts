/** The pace of steps of one kind, from the durations of those that were made. */
import { mean, medianHigh } from '../averages.js';

/** Before so many steps, all count the same; later, the older ones count less. */
const FIRST = 50;
/**
 * A step counts 1/e as much as the newest once so many seconds and steps more have gone by: another program that takes
 * the machine for seconds hardly changes the forecast, and one that stays does when that time has passed a few times.
 */
const FADE = { seconds: 60, steps: 50 };
/**
 * A step counts as so many medians at most. One that stood still, as in a suspension, would otherwise be part of the
 * forecast of all later ones. At first one counts less: what disturbs the beginning, such as code that is compiled and
 * memory that is touched for the first time, makes single steps slower and none faster.
 */
const MOST_MEDIANS = { atFirst: 1.15, later: 4 };
/** Steps whose means are compared, and how many such blocks, the newest. */
const BLOCK = { steps: 5, count: 4, mostMedians: 1.25 };

interface StepPace {
  /** Seconds of a step. */
  mean: number;
  /**
   * Range of the means of the newest blocks of steps, as a share of their mean: the largest less the smallest. Infinite
   * where there are fewer than two blocks.
   */
  range: number;
  /** How much longer the newest blocks took than the mean of a step says, as a share of it; negative: they took less. */
  change: number;
}

export class StepTimes {
  readonly #newest: number[] = [];
  #count = 0;
  /** Sums over all steps, of which the older ones count less: of 1, and of seconds. */
  #weights = 0;
  #seconds = 0;

  add(seconds: number): void {
    this.#count++;
    pushBounded(this.#newest, seconds, FIRST);
    const used = Math.min(seconds, MOST_MEDIANS.later * medianHigh(this.#newest));
    const kept = Math.max(1 - 1 / FADE.steps, 1 / (1 + used / FADE.seconds));
    this.#weights = this.#weights * kept + 1;
    this.#seconds = this.#seconds * kept + used;
    // What disturbed the first steps does not come back now that all are known.
    if (this.#count === FIRST) this.#seconds = this.#weights * this.#meanAtFirst;
  }

  get #meanAtFirst(): number {
    return mean(limited(this.#newest, MOST_MEDIANS.atFirst));
  }

  get count(): number {
    return this.#count;
  }

  /** Null: there was no step. */
  get pace(): StepPace | null {
    if (this.#count === 0) return null;
    const expected = this.#count < FIRST ? this.#meanAtFirst : this.#seconds / this.#weights;
    const newest = limited(this.#newest.slice(-BLOCK.count * BLOCK.steps), BLOCK.mostMedians);
    return { mean: expected, range: rangeOf(blocksOf(newest)), change: mean(newest) / expected - 1 };
  }
}

/** The same, but none longer than so many medians. */
function limited(seconds: readonly number[], medians: number): number[] {
  const most = medianHigh(seconds) * medians;
  return seconds.map((value) => Math.min(value, most));
}

/** The means of blocks of steps, the last one first; the first steps may be in none. */
function blocksOf(seconds: readonly number[]): number[] {
  const end = (i: number) => seconds.length - i * BLOCK.steps;
  const count = Math.floor(seconds.length / BLOCK.steps);
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
