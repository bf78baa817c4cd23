/** The times at which sampling evaluates the model. */
import { shiftTime } from '../objective/density.js';

/**
 * The times of a sampling run, from 1 (noise) to 0 (data): steps + 1 numbers, descending.
 *
 * `uniform` is that of the paper: equal steps of t, then the resolution shift, t_m = alpha t / (1 + (alpha -
 * 1) t).
 *
 * `reference` is that of the released inference code: `steps` equal steps from 1 down to the smallest time of
 * its table of 1,000 (the already shifted 1/1000), all of them shifted, and a final 0. So the smallest time
 * is shifted twice, and the last step is much shorter: at alpha = 3 and 10 steps it begins at 0.0089 instead
 * of 0.25.
 */
export type ScheduleKind = 'uniform' | 'reference';

export const SCHEDULES: readonly ScheduleKind[] = ['uniform', 'reference'];

/**
 * The times of a schedule.
 *
 * @param steps at least 1.
 * @param shift alpha > 0; 1 leaves the steps equal.
 */
export function schedule(kind: ScheduleKind, steps: number, shift: number): Float64Array {
  const times = new Float64Array(steps + 1);
  const last = kind === 'uniform' ? 0 : shiftTime(1 / 1000, shift);
  const intervals = kind === 'uniform' ? steps : Math.max(steps - 1, 1);
  for (let i = 0; i < steps; i++) times[i] = shiftTime(1 - (i / intervals) * (1 - last), shift);
  return times;
}
