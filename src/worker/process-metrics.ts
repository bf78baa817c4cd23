/** Memory and event-loop delay of this process. */
import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import type { Engine } from '../native/contract.js';

/** Each timer interrupts a compute thread for some 50 us. */
const RESOLUTION_MS = 5;
/** The percentile is that of the last whole window of this length: of a few timers it would be their worst. */
const WINDOW_MS = 5_000;

export class ProcessMetrics {
  readonly #histogram: IntervalHistogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  #since = performance.now();
  /** Of the last whole window; null in the first one. */
  #p99Seconds: number | null = null;

  constructor() {
    this.#histogram.enable();
  }

  read(engine: Engine) {
    // The histogram holds the time between two timers, their distance included.
    const p99 = this.#histogram.count === 0 ? 0 : this.#histogram.percentile(99) / 1e9 - RESOLUTION_MS / 1000;
    const now = performance.now();
    if (now - this.#since > WINDOW_MS) {
      this.#p99Seconds = p99;
      this.#histogram.reset();
      this.#since = now;
    }
    const { current, device } = engine.memory();
    return {
      nativeBytes: current,
      deviceBytes: device,
      rssBytes: process.memoryUsage.rss(),
      eventLoopP99Seconds: Math.max(0, this.#p99Seconds ?? p99),
    };
  }
}
