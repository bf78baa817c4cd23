/** Memory and event-loop delay of this process. */
import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import type { Engine } from '../native/contract.js';

const RESOLUTION_MS = 5;
/** The percentile is taken over windows of this length. */
const WINDOW_MS = 5_000;

export class Vitals {
  readonly #histogram: IntervalHistogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  #since = performance.now();

  constructor() {
    this.#histogram.enable();
  }

  read(engine: Engine): { nativeBytes: number; rssBytes: number; eventLoopP99Seconds: number } {
    // The histogram holds the time between two timers, their distance included.
    const p99 = this.#histogram.count === 0 ? 0 : this.#histogram.percentile(99) / 1e9 - RESOLUTION_MS / 1000;
    const now = performance.now();
    if (now - this.#since > WINDOW_MS) {
      this.#histogram.reset();
      this.#since = now;
    }
    return {
      nativeBytes: engine.memory().current,
      rssBytes: process.memoryUsage.rss(),
      eventLoopP99Seconds: Math.max(0, p99),
    };
  }
}
