/** Workers that are slower than the others for a while. They are named; slow is not wrong, so nothing is done to them. */
import { mean } from '../averages.js';
import type { Straggler, WorkerReport } from '../telemetry/record.js';
import { SLOW, slowness } from '../telemetry/slowness.js';

/** The last steps by which a worker is judged. */
export const STRAGGLER_STEPS = 20;
/** It becomes a straggler once it was slow in so many of them: one outlier decides nothing. */
const BEGINS = 15;
/**
 * It stays one until it kept up with the others in most of the last steps, of which there are more: a worker whose
 * slowness is about the limit, or comes and goes, is told of once.
 */
export const RECOVERY_STEPS = 100;
const RECOVERED = 75;
/** It kept up in a step, or in several on average, if it took at most this multiple of the median. */
const KEPT_UP = 1.2;

interface Followed {
  /** How many times as long as the median it took for a slot, in the last steps, the newest at the end. */
  times: number[];
  isStraggler: boolean;
}

export class Stragglers {
  /** By rank, host and process: another one begins as new. */
  #followed = new Map<string, Followed>();

  /** The stragglers after a step, without those that have kept up in the last steps and may be slow again. */
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
      if (times.length > RECOVERY_STEPS) times.shift();
      const is = was ? !hasRecovered(times) : isSlow(times);
      now.set(key, { times, isStraggler: is });
      const last = times.slice(-STRAGGLER_STEPS);
      const average = mean(last);
      if (is && average > KEPT_UP) all.push({ rank, host, times: average });
      const who = `rank ${rank} (pid ${pid} on ${host})`;
      if (is && !was) {
        const message = `${who} takes ${average.toFixed(1)} times as long for a slot as the median worker, in the last ${STRAGGLER_STEPS} steps; all others wait for it: look at its machine`;
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

/** Whether one that was no straggler is one now. */
function isSlow(times: readonly number[]): boolean {
  const last = times.slice(-STRAGGLER_STEPS);
  return last.length === STRAGGLER_STEPS && last.filter((time) => time > SLOW).length >= BEGINS;
}

/** Whether one that was a straggler is none any more. */
function hasRecovered(times: readonly number[]): boolean {
  return times.filter((time) => time <= KEPT_UP).length >= RECOVERED;
}
