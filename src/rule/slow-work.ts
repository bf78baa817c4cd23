/** What does not get on, and is no fault yet: the user is told. */
import type { Action } from './events.js';
import type { Membership } from './membership.js';
import type { PendingCheckpoints } from './pending-checkpoints.js';

/** Workers and checkpoints that have stood still for too long: each is told once. */
export function slowWork(membership: Membership, checkpoints: PendingCheckpoints, now: number): Action[] {
  const warn = (message: string): Action => ({ type: 'warn', message });
  const seconds = (ms: number) => `${(ms / 1000).toFixed(0)} s`;
  const name = (id: string) => membership.name(id);
  // Their watchdog knows which of them hang, and ends those.
  const workers = membership.members
    .standing(now)
    .map(({ id, work, ms }) =>
      warn(`${name(id)} has not got on with ${work} for ${seconds(ms)}; if it hangs, its watchdog ends it`),
    );
  // Their disk may have failed. Training goes on, and the last one is waited for.
  const stalled = checkpoints
    .stalled(now)
    .map(({ step, writer, ms }) =>
      warn(
        `${name(writer)} has not got on with the checkpoint of step ${step} for ${seconds(ms)}: look at the disk of the run folder. No other is written until then`,
      ),
    );
  return [...workers, ...stalled];
}
