/** When a worker that has died is started again. */

/** Restarts are counted over this time. */
const WINDOW_MS = 600_000;
const FIRST_DELAY_MS = 1_000;
const LONGEST_DELAY_MS = 30_000;

export class Restarts {
  readonly #most: number;
  #recent: number[] = [];

  /** @param most in ten minutes. */
  constructor(most: number) {
    this.#most = most;
  }

  /**
   * The worker has died: how long to wait until it is started again, twice as long as the time before, and how
   * many starts in ten minutes it is; null if it is not started again.
   *
   * @param now Milliseconds of any monotonic clock.
   */
  next(now: number): { delayMs: number; count: number } | null {
    this.#recent = this.#recent.filter((at) => now - at < WINDOW_MS);
    const before = this.#recent.length;
    if (before >= this.#most) return null;
    this.#recent.push(now);
    // 2^5 seconds are longer than the longest.
    const delayMs = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS << Math.min(before, 5));
    return { delayMs, count: before + 1 };
  }

  /** How long until another start is allowed; null: never, because none is. */
  waitMs(now: number): number | null {
    if (this.#most === 0) return null;
    const oldest = this.#recent.at(-this.#most) ?? Number.NEGATIVE_INFINITY;
    return Math.max(0, oldest + WINDOW_MS - now);
  }
}
