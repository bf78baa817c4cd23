/** Metrics of this process: memory and event-loop delay. */
import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import type { Engine } from '../native/contract.js';

/** Each timer interrupts a compute thread for about 50 us, so the resolution is low. */
const RESOLUTION_MS = 5;
/** The percentile is taken over windows of this length; over a few timers it would be their maximum. */
const WINDOW_MS = 5_000;

export class ProcessMetrics {
  readonly #histogram: IntervalHistogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  #since = performance.now();
  /** The percentile of the last complete window; null during the first. */
  #p99Seconds: number | null = null;

  constructor() {
    this.#histogram.enable();
  }

  read(engine: Engine) {
    // The histogram measures the time between two timers, which includes the timer's period.
    const p99 = this.#histogram.count === 0 ? 0 : this.#histogram.percentile(99) / 1e9 - RESOLUTION_MS / 1000;
    const now = performance.now();
    if (now - this.#since > WINDOW_MS) {
      this.#p99Seconds = p99;
      this.#histogram.reset();
      this.#since = now;
    }
    const { current, device } = engine.memory();
    return {
      native_bytes: current,
      device_bytes: device,
      rss_bytes: process.memoryUsage.rss(),
      event_loop_p99_seconds: Math.max(0, this.#p99Seconds ?? p99),
    };
  }
}
