/** Workers that are slower than the others for a while. They are named; slow is not wrong, so nothing is done to them. */
import type { Straggler, WorkerReport } from '../telemetry/record.js';
import { SLOW, slowness } from '../telemetry/slowness.js';

/** The last steps by which a worker is judged. */
export const STRAGGLER_STEPS = 20;
/** It is a straggler once it was slow in so many of them, until it was slow in so few: one outlier decides nothing. */
const BEGINS = 15;
const ENDS = 5;

interface Followed {
  /** How many times as long as the median it took for a slot, in the last steps. */
  times: number[];
  isStraggler: boolean;
}

export class Stragglers {
  /** By rank, host and process: another one begins as new. */
  #followed = new Map<string, Followed>();

  /** The stragglers after a step. */
  all: readonly Straggler[] = [];

  /** Takes the workers of a step, and returns what to tell. */
  step(workers: readonly WorkerReport[]): { level: 'info' | 'warn'; message: string }[] {
    const notes: { level: 'info' | 'warn'; message: string }[] = [];
    const all: Straggler[] = [];
    const now = new Map<string, Followed>();
    const slow = slowness(workers);
    for (const [i, { rank, host, pid }] of workers.entries()) {
      const key = `${rank}/${host}/${pid}`;
      const { times, isStraggler: was } = this.#followed.get(key) ?? { times: [], isStraggler: false };
      times.push(slow[i]!);
      if (times.length > STRAGGLER_STEPS) times.shift();
      const count = times.filter((time) => time > SLOW).length;
      const is = times.length === STRAGGLER_STEPS && (was ? count > ENDS : count >= BEGINS);
      now.set(key, { times, isStraggler: is });
      const mean = times.reduce((sum, time) => sum + time, 0) / times.length;
      if (is) all.push({ rank, host, times: mean });
      const who = `rank ${rank} (pid ${pid} on ${host})`;
      if (is && !was) {
        const message = `${who} takes ${mean.toFixed(1)} times as long for a slot as the median worker, in the last ${STRAGGLER_STEPS} steps; all others wait for it: look at its machine`;
        notes.push({ level: 'warn', message });
      } else if (was && !is) {
        notes.push({ level: 'info', message: `${who} is as fast as the other workers again` });
      }
    }
    this.#followed = now;
    this.all = all;
    return notes;
  }
}
