/** Metrics of this process: memory and event-loop delay. */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Engine } from '../native/contract.js';

/** Each timer interrupts a compute thread for about 50 us, so the resolution is low. */
const RESOLUTION_MS = 5;
/** The percentile is taken over windows of this length; over a few timers it would be their maximum. */
const WINDOW_MS = 5_000;

/** Starts measuring, and returns what reads this process's part of WorkerNumbers. */
export function measureProcess(engine: Engine) {
  const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  histogram.enable();
  let since = performance.now();
  /** The percentile of the last complete window; null during the first. */
  let p99Seconds: number | null = null;
  return () => {
    // The histogram measures the time between two timers, which includes the timer's period.
    const p99 = histogram.count === 0 ? 0 : histogram.percentile(99) / 1e9 - RESOLUTION_MS / 1000;
    const now = performance.now();
    if (now - since > WINDOW_MS) {
      p99Seconds = p99;
      histogram.reset();
      since = now;
    }
    const { current, device } = engine.memory();
    return {
      native_bytes: current,
      device_bytes: device,
      rss_bytes: process.memoryUsage.rss(),
      event_loop_p99_seconds: Math.max(0, p99Seconds ?? p99),
    };
  };
}
