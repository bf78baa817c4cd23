/** The times at which sampling evaluates the model. */
import type { Objective } from '../objective/objective.js';

/**
 * Gives the times of a sampling run, before the resolution shift, from 1 (noise) towards 0 (data): `steps` of
 * them, descending. The path ends at a further time, 0.
 */
type Schedule = (steps: number, objective: Objective) => number[];

function equalSteps(steps: number, intervals: number, last: number): number[] {
  return Array.from({ length: steps }, (_, i) => 1 - (i / intervals) * (1 - last));
}

/** One entry for each schedule. */
const SCHEDULES = {
  // The paper's: equal steps of t.
  uniform: (steps) => equalSteps(steps, steps, 0),
  // That of the released inference code: equal steps from 1 down to the smallest time of its table of 1,000,
  // the already shifted 1/1000. So the smallest time is shifted twice, and the last step is much shorter: at
  // alpha = 3 and 10 steps it begins at 0.0089 instead of 0.25.
  reference: (steps, objective) => equalSteps(steps, Math.max(steps - 1, 1), objective.shift(1 / 1000)),
} as const satisfies Record<string, Schedule>;

export type ScheduleKind = keyof typeof SCHEDULES;

export const SCHEDULE_KINDS = Object.keys(SCHEDULES) as ScheduleKind[];

/** The steps + 1 times of a sampling run, shifted as in training: from 1 to 0, descending; steps >= 1. */
export function schedule(kind: ScheduleKind, steps: number, objective: Objective): number[] {
  return [...SCHEDULES[kind](steps, objective).map((t) => objective.shift(t)), 0];
}
