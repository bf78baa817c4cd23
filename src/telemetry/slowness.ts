/** How much slower a worker is than the others, by what it takes for a slot. */
import { medianLow } from '../averages.js';
import type { WorkerReport } from './record.js';

/** A worker is slow in a step if it takes longer than this multiple of the median of all for a slot. */
export const SLOW = 1.5;

/** By worker, its time for a slot over the median of all. Of an even number of workers, that is the lower one. */
export function slowness(
  workers: readonly Pick<WorkerReport, 'firstSlot' | 'endSlot' | 'numbers'>[],
): number[] {
  const seconds = workers.map(
    ({ firstSlot, endSlot, numbers }) => numbers.accumulate_seconds / (endSlot - firstSlot),
  );
  const median = medianLow(seconds);
  return seconds.map((time) => (median > 0 ? time / median : 1));
}
